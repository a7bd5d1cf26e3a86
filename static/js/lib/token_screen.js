// How the page shows tokens: at all or not, tinted by what, and the card of the one that is looked at. The choice is kept
// in the browser; what a run sends is the draft's.

import { setBeliefs } from "./draft.js";
import { startOf } from "./params.js";
import { TINTS, tintsFor } from "./tints.js";

const KEPT = "diptych.tokens";

export class TokenScreen {
  constructor(bench, storage) {
    Object.assign(this, { bench, storage });
    this.bar = bench.querySelector("token-bar");
    this.card = bench.querySelector("token-card");
    const { tokens = false, tint } = read(storage);
    Object.assign(bench.screen, { tokens: Boolean(tokens), tint: tint in TINTS ? tint : "probability" });
    bench.addEventListener("token-card", ({ detail: { span, about, how } }) => this.card.show(span, about, how));
    bench.addEventListener("token-left", () => this.card.leave());
    bench.addEventListener("token-done", () => this.card.close());
  }

  /** True if this was an act of tokens and not of a lane. */
  do({ name, ...detail }) {
    const names = {
      tokens: () => this.set({ tokens: detail.on }),
      tint: () => this.set({ tint: detail.tint, chosen: true }),
      insight: () => this.insight(detail.on),
      beliefs: () => this.beliefs(detail.on),
      next: () => this.next(detail.step),
      "insight-again": () => this.again(),
    };
    names[name]?.();
    return name in names;
  }

  set({ chosen = false, ...change }) {
    Object.assign(this.bench.screen, change);
    if (chosen) this.chosen = true;
    if (change.tokens === false) this.card.close();
    const { tokens, tint } = this.bench.screen;
    try {
      this.storage?.setItem(KEPT, JSON.stringify({ tokens, tint }));
    } catch {
      // Storage is full or forbidden: the choice holds for this page.
    }
    this.bench.showRun();
  }

  /** Ask for insight with the next run, or not. Beliefs are told with insight alone. */
  insight(on) {
    const { catalog, models } = this.bench;
    const parameter = catalog.find(({ name }) => name === "top_logprobs");
    this.bench.edit((draft) => {
      const value = draft.params.top_logprobs?.value ?? startOf(parameter);
      const next = { ...draft, params: { ...draft.params, top_logprobs: { on, value } } };
      return on || !draft.beliefs ? next : setBeliefs(next, false, models);
    });
  }

  beliefs(on) {
    if (on && !this.bench.draft.xray) this.insight(true);
    this.bench.edit((draft) => setBeliefs(draft, on, this.bench.models));
    if (on) this.set({ tint: "kl" });
    else if (this.bench.screen.tint === "kl") this.set({ tint: "probability" });
  }

  again() {
    this.insight(true);
    this.bench.run();
  }

  next(step) {
    const { bench } = this;
    if (!bench.screen.tokens && !bench.draft.xray) this.set({ tokens: true });
    requestAnimationFrame(() => requestAnimationFrame(() => {
      if (!bench.strip.goRemarkable(step)) bench.notice({ text: "No token stands out here." });
    }));
  }

  show(views) {
    const { bench } = this;
    const { draft, screen } = bench;
    const seen = views.flatMap(({ lane, xray }) => (lane ? (xray ? lane.scored : lane.insight) : []).slice(0, 200));
    const shaded = seen.some((token) => token?.shades?.length);
    const shown = screen.tokens || Boolean(draft.xray);
    bench.querySelector('[data-do="tokens"]').setAttribute("aria-pressed", String(shown));
    bench.querySelector('[data-do="tokens"]').hidden = Boolean(draft.xray);
    this.bar.show({
      shown, tint: screen.tint, tints: seen.length ? tintsFor(seen) : null, xray: Boolean(draft.xray), shaded,
      insight: Boolean(draft.params.top_logprobs?.on), beliefs: Boolean(draft.beliefs), why: this.#whyNoBeliefs(views),
    });
  }

  #whyNoBeliefs(views) {
    const family = (view) => view.info?.base ?? view.model;
    if (!views.some((a) => views.some((b) => a !== b && family(a) === family(b)))) return "Needs two lanes of one base model.";
    return views.map((view) => view.info?.cannot?.shadows).find(Boolean) ?? null;
  }
}

function read(storage) {
  try {
    return JSON.parse(storage?.getItem(KEPT)) ?? {};
  } catch {
    return {};
  }
}
