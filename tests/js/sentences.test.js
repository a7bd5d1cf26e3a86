// What people read about a lane.

import assert from "node:assert/strict";
import test from "node:test";
import * as sentences from "../../static/js/lib/sentences.js";
import { forkOf, wordEnd } from "../../static/js/lib/fork.js";
import { commandOf } from "../../static/js/lib/keyboard.js";
import { tonesOf } from "../../static/js/lib/tones.js";

const lane = (more) => ({ model: "m", state: "queued", text: "", tokens: 0, figures: null, finish: null, ...more });
const world = { workers: [], connection: "open", starting: false, stopping: false, model: null };
const worker = (more) => ({ models: ["m"], running: 0, waiting: 0, slots: 8, ready: true, note: "", ...more });
const facts = (...args) => sentences.facts(...args).map(({ text }) => text);

test("a cut answer never looks like a finished one", () => {
  assert.notEqual(sentences.ending(lane({ state: "done", finish: "length" })).text, sentences.ending(lane({ state: "done", finish: "stop" })).text);
  assert.equal(sentences.ending(lane({ state: "done", finish: "length" })).warn, true);
});

test("facts are live while it runs and the worker's own at the end", () => {
  assert.deepEqual(facts(lane({ state: "running", tokens: 1 }), 12.34), ["1 token", "12 tok/s", "running"]);
  const figures = { first_ms: 141.6, decode_ms: 1000, completion_tokens: 6 };
  assert.deepEqual(facts(lane({ state: "done", finish: "stop", tokens: 6, figures }), 99), ["6 tokens", "142 ms to first", "5.0 tok/s", "done: stop"]);
});

test("a lane knows its place in the queue", () => {
  const says = (position) => sentences.note(lane({ position }), { ...world, workers: [worker()] });
  assert.match(says(2), /^2nd in the queue/);
  assert.match(says(1), /^Next/);
  assert.equal(says(null), "Queued.");
  assert.deepEqual([1, 2, 3, 4, 11, 12, 13, 21, 22, 103, 111].map(sentences.ordinal), ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "103rd", "111th"]);
});

test("tokens without insight say why, and whether running again helps", () => {
  const says = (more, info = null) => sentences.insightNote(lane({ state: "done", tokens: 3, insight: [], used: {}, ...more }), info);
  assert.deepEqual([says({}).again, says({ used: { top_logprobs: 5 } }).again], [true, false]);
  assert.match(says({}, { cannot: { top_logprobs: "This server keeps them." } }).text, /This server keeps them/);
  assert.equal(says({ insight: [null, { logprob: -1 }] }), null);
  assert.equal(says({ tokens: 0 }), null);
});

test("an X-ray tells how a text was liked, also where nothing is known of it", () => {
  const read = (scored) => sentences.xrayFacts(lane({ state: "done", finish: "length", scored })).map(({ text }) => text);
  assert.deepEqual(read([{ logprob: -1 }, { logprob: -3 }]), ["2 tokens read", "perplexity 7.39", "−2.00 per token", "read"]);
  assert.deepEqual(read([]), ["0 tokens read", "read"]);
  assert.match(read([{ logprob: -20 }])[1], /e\+8/);
});

test("what the prefix cache saved is said once a worker was asked anything", () => {
  assert.equal(sentences.cacheWords({}), null);
  assert.match(sentences.cacheWords({ cache_hits: 25, cache_asked: 1000 }), /3 % of 1,000/);
});

test("a queued lane says what it waits for", () => {
  const says = (more) => sentences.note(lane(), { ...world, ...more });
  assert.match(says({}), /No worker is running/);
  assert.match(says({ workers: [worker({ models: ["other"] })] }), /No running worker serves m/);
  assert.match(says({ workers: [worker({ running: 8, waiting: 2 })] }), /8 answers running, 2 waiting/);
  assert.match(says({ workers: [worker({ ready: false, note: "loading" })] }), /getting ready \(loading\)/);
  assert.match(says({ connection: "waiting" }), /goes on at the server/);
  assert.match(says({ connection: "waiting", starting: true }), /starts as soon as it is back/);
});

test("the status line speaks of the beginning and the end, not of tokens in between", () => {
  const running = sentences.summary([lane({ state: "running", tokens: 5 })]);
  assert.equal(running, sentences.summary([lane({ state: "running", tokens: 6 })]));
  assert.equal(sentences.summary([lane({ state: "done", finish: "stop", tokens: 3 })]), "Complete: lane 1 done: stop, 3 tokens.");
});

test("texts fork at the first unit that differs, never inside a pair, and not while one begins the other", () => {
  assert.equal(forkOf("same start", "same stop"), 7);
  assert.equal(forkOf("abc", "abcdef"), -1);
  assert.equal(forkOf("", "x"), -1);
  assert.equal(forkOf("a👋", "a👍"), 1);
  assert.equal(wordEnd("one two", 4), 7);
  assert.equal(wordEnd("one two", 0), 3);
});

test("the first base is blue, the first tuned one orange, others are calmer", () => {
  const models = [{ id: "b" }, { id: "t", base: "b" }];
  const lanes = ["b", "t", "t", "b", "ft:gone"].map((model) => ({ model }));
  assert.deepEqual(tonesOf(lanes, models), ["base", "tuned", "third", "fourth", "third"]);
});

test("keys mean what the list of shortcuts says", () => {
  const press = (key, code, more = {}) => commandOf({ key, code, ...more }, more.typing);
  assert.equal(press("Enter", "Enter", { ctrlKey: true, typing: true }), "run");
  assert.equal(press("Enter", "Enter", { metaKey: true, typing: true }), "run");
  assert.equal(press("Enter", "Enter", { typing: true }), null);
  assert.equal(press("Escape", "Escape", { typing: true }), "stop");
  assert.equal(press("s", "KeyS", { ctrlKey: true }), "save");
  assert.equal(press("r", "KeyR", { ctrlKey: true }), null);
  assert.equal(press("?", "Slash", { shiftKey: true }), "shortcuts");
  assert.equal(press("?", "Slash", { shiftKey: true, typing: true }), null);
  assert.equal(press("2", "Digit2"), "lane:2");
  assert.equal(press("Enter", "Enter", { ctrlKey: true, isComposing: true }), null);
});
