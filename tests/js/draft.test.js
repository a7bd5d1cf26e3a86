// Nothing that somebody typed is lost, and what is opened again is what was saved.

import assert from "node:assert/strict";
import test from "node:test";
import * as draft from "../../static/js/lib/draft.js";
import { DraftStore } from "../../static/js/lib/draft_store.js";

const catalog = [
  { name: "temperature", kind: "number", start: 0.7, on: false, bounds: [0, 2] },
  { name: "max_tokens", kind: "integer", start: 256, on: true, bounds: [1, 8192] },
];
const chat = {
  prompt: { mode: "chat", messages: [{ role: "system", content: "S" }, { role: "user", content: "<b>U</b>" }] },
  lanes: [{ model: "a", overrides: {} }, { model: "b", overrides: { temperature: null, max_tokens: 5 } }],
  params: { temperature: 0.5 },
};
const limits = { prompt_chars: 20 };

class Memory {
  constructor(room = Infinity) {
    Object.assign(this, { room, items: new Map() });
  }
  getItem(key) {
    return this.items.get(key) ?? null;
  }
  setItem(key, value) {
    const others = [...this.items].filter(([other]) => other !== key).reduce((sum, [, text]) => sum + text.length, 0);
    if (others + value.length > this.room) throw new Error("QuotaExceededError");
    this.items.set(key, value);
  }
  removeItem(key) {
    this.items.delete(key);
  }
}

test("a spec that is opened is the spec that is sent", () => {
  assert.deepEqual(draft.toSpec(catalog, draft.fromSpec(catalog, chat)), chat);
  const completion = { ...chat, prompt: { mode: "completion", text: "Once" } };
  assert.deepEqual(draft.toSpec(catalog, draft.fromSpec(catalog, completion)), completion);
});

test("a spec with all that a lane and a chat can have is sent as it was opened", () => {
  const spec = {
    prompt: {
      mode: "chat", continue_final: true,
      messages: [
        { role: "user", content: "weather?" },
        { role: "assistant", content: "", tool_calls: [{ id: "1", name: "look", arguments: "{}" }] },
        { role: "tool", content: "sun", tool_call_id: "1" },
        { role: "assistant", content: "It is" },
      ],
      tools: [{ name: "look", description: "d", parameters: "{}" }],
    },
    lanes: [
      { model: "a", overrides: {}, shadows: [{ model: "b", strength: 0.5 }] },
      { model: "b", overrides: {}, strength: 0.5, prefix: [1, 2], shadows: [{ model: "a" }] },
    ],
    params: { temperature: 0.5 },
  };
  const open = draft.fromSpec(catalog, spec);
  assert.deepEqual(draft.toSpec(catalog, open), spec);
  assert.equal(open.beliefs, true);
  assert.equal(draft.complaint(open, { prompt_chars: 1000 }), null); // a call of a tool needs no words
  assert.equal(draft.toSpec(catalog, { ...open, messages: open.messages.slice(0, -1) }).prompt.continue_final, undefined);
});

const table = [...catalog, { name: "prompt_logprobs", kind: "integer", start: 5, on: false, bounds: [0, 20] }];

test("an X-ray sends nothing that shapes an answer, and opens as one", () => {
  const xray = { ...chat, lanes: [{ model: "a", overrides: {} }], params: { max_tokens: 0, prompt_logprobs: 3 } };
  const open = draft.fromSpec(table, xray);
  assert.equal(open.xray, true);
  assert.deepEqual(draft.toSpec(table, open), xray);
  const busy = { ...open, params: { ...open.params, temperature: { on: true, value: 1 }, prompt_logprobs: { on: false, value: 3 } } };
  assert.deepEqual(draft.toSpec(table, { ...busy, lanes: [draft.newLane({ model: "a", overrides: { max_tokens: 9 } })] }).params, { max_tokens: 0, prompt_logprobs: 5 });
  assert.equal(draft.fromSpec(table, { ...xray, params: { max_tokens: 0 } }).xray, false);
});

test("an answer that is X-rayed stands where it was said", () => {
  const now = draft.fromSpec(table, { ...chat, lanes: [{ model: "b", overrides: {} }] });
  const ask = (prompt) => draft.toSpec(table, draft.xrayOf(table, now, { ...chat, prompt }, " answer"));
  assert.deepEqual(ask({ mode: "completion", text: "Once" }).prompt, { mode: "completion", text: "Once answer" });
  const spoken = ask(chat.prompt).prompt;
  assert.deepEqual(spoken.messages.at(-1), { role: "assistant", content: " answer" });
  assert.equal(spoken.continue_final, true);
  const begun = { mode: "chat", messages: [{ role: "assistant", content: "It is" }], continue_final: true };
  assert.deepEqual(ask(begun).prompt.messages, [{ role: "assistant", content: "It is answer" }]);
  assert.deepEqual(ask(chat.prompt).lanes, [{ model: "b", overrides: {} }]);
});

test("beliefs follow the lanes while they are on, and go when they are off", () => {
  const models = [{ id: "a" }, { id: "b", base: "a" }];
  const open = draft.setBeliefs(draft.fromSpec(catalog, chat), true, models);
  assert.deepEqual(open.lanes.map((lane) => lane.shadows), [[{ model: "b" }], [{ model: "a" }]]);
  const alone = draft.withBeliefs({ ...open, lanes: open.lanes.slice(0, 1) }, models);
  assert.deepEqual(alone.lanes[0].shadows, []);
  assert.equal(draft.withBeliefs(open, models), open);
  assert.equal(draft.withBeliefs(open, []), open); // models that are not known yet change nothing
  assert.deepEqual(draft.setBeliefs(open, false, models).lanes.map((lane) => lane.shadows), [[], []]);
});

test("a draft of a page that knew fewer parameters works on", () => {
  const { prompt_logprobs: _, ...fewer } = draft.fromSpec(table, chat).params;
  const kept = draft.withCatalog(table, { ...draft.fromSpec(table, chat), params: fewer });
  assert.deepEqual(draft.toSpec(table, kept), chat);
});

test("changing the kind of prompt keeps what the other kind held", () => {
  const there = { ...draft.fromSpec(catalog, chat), mode: "completion", text: "T" };
  assert.deepEqual(draft.toSpec(catalog, { ...there, mode: "chat" }), chat);
  assert.deepEqual(draft.toSpec(catalog, there).prompt, { mode: "completion", text: "T" });
});

test("fingerprints know no order of keys, but every value", () => {
  const turned = { params: chat.params, lanes: chat.lanes.map(({ model, overrides }) => ({ overrides, model })), prompt: chat.prompt };
  assert.equal(draft.fingerprint(turned), draft.fingerprint(chat));
  assert.notEqual(draft.fingerprint({ ...chat, params: { temperature: 0.6 } }), draft.fingerprint(chat));
});

test("an empty message is named, an empty system message is allowed", () => {
  const open = draft.fromSpec(catalog, chat);
  const with_ = (...messages) => ({ ...open, messages: messages.map(([role, content]) => draft.newMessage(role, content)) });
  assert.equal(draft.complaint(with_(["system", ""], ["user", "x"]), limits), null);
  assert.match(draft.complaint(with_(["user", "x"], ["assistant", " "]), limits).text, /Message 2 is empty/);
  assert.match(draft.complaint(with_(["user", "x".repeat(21)]), limits).text, /21 characters; at most 20/);
  assert.match(draft.complaint(with_(), limits).text, /Add a message/);
});

test("moving goes nowhere beyond the ends", () => {
  const list = ["a", "b", "c"];
  assert.deepEqual(draft.moved(list, 0, 2), ["b", "c", "a"]);
  assert.deepEqual(draft.moved(list, 2, 0), ["c", "a", "b"]);
  assert.equal(draft.moved(list, 0, -1), list);
  assert.equal(draft.moved(list, 2, 3), list);
});

test("models that nobody serves give way to a base and what was tuned from it", () => {
  const models = [{ id: "x" }, { id: "y", base: "z" }, { id: "z" }, { id: "ft:x", base: "x" }];
  const ids = (lanes) => draft.withServedModels(lanes, models).map((lane) => lane.model);
  assert.deepEqual(ids([{ model: "gone" }, { model: "gone too" }]), ["x", "ft:x"]);
  assert.deepEqual(ids([{ model: "z" }, { model: "gone" }]), ["z", "y"]);
  const known = [{ model: "z" }];
  assert.equal(draft.withServedModels(known, models), known);
  assert.equal(draft.withServedModels([{ model: "gone" }], [])[0].model, "gone");
});

test("a reload finds this tab's draft, a new tab the newest of any", () => {
  const browser = new Memory();
  const first = new DraftStore(new Memory(), browser);
  const second = new DraftStore(new Memory(), browser);
  const open = draft.fromSpec(catalog, chat);
  first.save("new", { ...open, text: "first" });
  second.save("new", { ...open, text: "second" });
  assert.equal(first.load("new").text, "first");
  assert.equal(new DraftStore(new Memory(), browser).load("new").text, "second");
});

test("when storage is full the oldest drafts go, never the one that is being written", () => {
  const store = new DraftStore(null, new Memory(5000));
  const open = draft.fromSpec(catalog, chat);
  for (let i = 0; i < 10; i++) store.save(`run:${i}`, { ...open, text: "x".repeat(800) });
  assert.equal(store.load("run:9").text.length, 800);
  assert.equal(store.load("run:0"), null);
});

test("without any storage, or with rubbish in it, the page still works", () => {
  const broken = { getItem: () => { throw new Error("no"); }, setItem: () => { throw new Error("no"); }, removeItem() {} };
  const store = new DraftStore(broken, null);
  store.save("new", draft.fromSpec(catalog, chat));
  assert.equal(store.load("new"), null);
  const rubbish = new Memory();
  rubbish.setItem("diptych.draft:new", '{"lanes": 3}');
  assert.equal(new DraftStore(rubbish, null).load("new"), null);
});
