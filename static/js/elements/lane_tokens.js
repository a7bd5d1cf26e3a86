// The tokens of one column: what is known of them in view, header and foot, and the ways to the ones worth a look.

import { hardest, nextRemarkable, tailOf, widest } from "../lib/beliefs.js";
import { unbranchable } from "../lib/branch.js";
import { make, part, setText, tell } from "../lib/dom.js";
import { beliefFacts, insightNote, variantName } from "../lib/sentences.js";
import { hasEnded } from "../lib/run_store.js";
import { share } from "../lib/tints.js";
import { inLine, tokenAt, unscored } from "../lib/token_text.js";

const SETTLED = 20; // tokens behind which what lies where does not change any more

export class LaneTokens {
  constructor(root, key) {
    this.root = root;
    this.key = key;
    this.list = part(root, "answer-list");
    this.prompt = part(root, "prompt-tokens");
    this.promptList = part(root, "prompt-list");
    for (const list of [this.list, this.promptList]) list.addEventListener("token", (event) => this.#look(event, list === this.promptList));
    this.prompt.addEventListener("toggle", () => this.#showPrompt());
  }

  /** True if the column shows tokens instead of plain text. */
  show(view) {
    this.view = view;
    const { lane, xray } = view;
    this.seen = lane ? (xray ? lane.scored : lane.insight) : [];
    this.from = xray && lane?.state === "done" ? this.#lastMessage() : -1;
    const byToken = view.tokens && this.seen.length > 0;
    this.list.hidden = !byToken;
    if (byToken) {
      this.list.show({
        key: `${lane.lane}`, tokens: this.seen, text: xray ? view.prompt : lane.text, before: xray ? this.#unscored() : "",
        given: xray ? 0 : lane.prefix.length, tint: view.tint, fork: xray ? -1 : this.#fork(), label: `Tokens of lane ${view.index + 1}`,
        ended: hasEnded(lane),
      });
    }
    this.#showPrompt();
    this.#showNote(view, byToken);
    this.#showHardest(view);
    return byToken;
  }

  /** What the header says of them. */
  facts({ models }) {
    const { lane } = this.view;
    if (lane.shadows.length === 0 || this.seen.length === 0) return [];
    if (this.factsOf === this.seen) return this.known;
    const list = beliefFacts(lane, this.seen, models);
    const at = widest(this.seen);
    if (at >= 0) list.push({ name: "widest", text: `most at ${inLine(this.seen[at].text)}`, press: "widest", title: "Go to the token on which the models are furthest apart" });
    [this.factsOf, this.known] = [this.seen, list];
    return list;
  }

  go(index) {
    this.list.go(index);
  }

  goWidest() {
    if (this.list.hidden) tell(this.root, "act", { name: "tokens", on: true });
    requestAnimationFrame(() => requestAnimationFrame(() => this.go(widest(this.seen))));
  }

  /** The next token worth a look, after the one that was looked at last. False where there is none. */
  goRemarkable(step) {
    const from = this.list.contains(document.activeElement) || this.visited ? this.list.current : step > 0 ? -1 : 0;
    const at = nextRemarkable(this.seen, from, step);
    if (at >= 0) this.go(at);
    this.visited = at >= 0;
    return at >= 0;
  }

  /** Where the last message of a chat begins, if the text ends with it. */
  #lastMessage() {
    if (this.lastOf !== this.seen) [this.lastOf, this.last] = [this.seen, tailOf(this.seen, this.view.lastMessage)];
    return this.last;
  }

  /** The prompt of a run that asked for insight into it and for an answer; built when somebody opens it. */
  #showPrompt() {
    const { lane, tokens, xray, tint, index } = this.view;
    const scored = lane?.scored ?? [];
    this.prompt.hidden = !tokens || xray || scored.length === 0;
    if (this.prompt.hidden) return;
    setText(part(this.root, "prompt-words"), `Prompt, ${scored.length} tokens`);
    if (this.prompt.open) this.promptList.show({ key: `${lane.lane}`, tokens: scored, text: "", before: "⋯", tint, label: `Tokens of the prompt of lane ${index + 1}` });
  }

  #unscored() {
    if (this.scoredOf === this.seen) return this.before;
    this.scoredOf = this.seen;
    this.before = unscored(this.view.prompt, this.seen) || "⋯"; // a chat's template is known to the worker alone
    return this.before;
  }

  #fork() {
    const { forkAt, lane } = this.view;
    if (forkAt === undefined || forkAt < 0) return -1;
    const key = `${lane.lane} ${forkAt}`;
    const settled = this.forkKey === key && this.forkToken >= 0 && this.forkToken < this.seen.length - SETTLED;
    if (!settled) this.forkToken = tokenAt(lane.text, this.seen, forkAt);
    this.forkKey = key;
    return this.forkToken;
  }

  #showNote({ lane, tokens, xray, info, readOnly }, byToken) {
    const note = tokens && lane && !byToken && !xray ? insightNote(lane, info) : null;
    const box = part(this.root, "insight-note");
    box.hidden = !note;
    if (!note) return;
    setText(part(this.root, "insight-words"), note.text);
    part(this.root, "insight-again").hidden = !note.again || readOnly;
  }

  /** For an X-ray: what the model expected least. */
  #showHardest({ xray, lane }) {
    const box = part(this.root, "hardest");
    const shown = xray && lane?.state === "done" ? hardest(this.seen, Math.max(0, this.from)) : [];
    box.hidden = shown.length === 0;
    if (this.hardestOf === this.seen || shown.length === 0) return;
    this.hardestOf = this.seen;
    part(this.root, "hardest-list").replaceChildren(
      ...shown.map((index) => {
        const button = make("button", "hard");
        button.type = "button";
        Object.assign(button.dataset, { do: "hard", at: index });
        button.append(make("span", "hard-text", inLine(this.seen[index].text)), make("span", "num", share(this.seen[index].logprob)));
        return button;
      }),
    );
  }

  #look({ detail: { index, span, how } }, ofPrompt) {
    const { lane, models, info, limits, readOnly, tone, variants } = this.view;
    const given = ofPrompt || this.view.xray; // what was asked is no answer: there is nothing to branch
    const seen = given ? lane.scored[index] : this.seen[index];
    if (!seen) return tell(this.root, "token-left");
    const named = (variant) => ({ name: variantName(variant, models), tone: toneOf(variant, variants) });
    const own = { model: lane.model, strength: info?.base ? (lane.used_strength ?? lane.strength) : null };
    const why = given || readOnly ? null : unbranchable(lane, index, info, limits);
    const act = given || readOnly ? null : (id) => {
      tell(this.root, "token-done");
      tell(this.root, "act", { name: "branch", key: this.key, lane: lane.lane, at: index, id });
    };
    const about = { seen, index: given ? index + 1 : index, name: variantName(own, models), tone, shadows: lane.shadows.map(named), why, act };
    tell(this.root, "token-card", { span, about, how });
  }
}

const toneOf = (variant, variants) =>
  variants.find((other) => other.model === variant.model && (other.strength ?? 1) === (variant.strength ?? 1))?.tone ?? null;
