// Says of a fine-tuned model whether it was proven to differ from its base, and by what.

import { icon, make } from "../lib/dom.js";

const STATES = {
  proven: ["check", "proven different", "good"],
  failed: ["alert", "not proven", "bad"],
  unknown: ["clock", "proof when loaded", ""],
};
let counter = 0;

class ProofBadge extends HTMLElement {
  show(model) {
    const key = model?.base ? `${model.id} ${model.proof?.state ?? "unknown"} ${model.proof?.adapter_sha256 ?? ""}` : "";
    if (key === this.key) return;
    this.key = key;
    this.replaceChildren();
    if (!key) return;
    const [symbol, words, tone] = STATES[model.proof?.state] ?? STATES.unknown;
    const button = make("button", `chip proof ${tone}`);
    button.type = "button";
    button.append(icon(symbol), make("span", "", words));
    const popover = make("div", "menu wide");
    popover.popover = "auto";
    popover.id = `proof-${counter++}`;
    button.setAttribute("popovertarget", popover.id);
    popover.append(make("p", "menu-title", "Are these two different models?"), ...explain(model));
    this.append(button, popover);
  }
}

function explain(model) {
  const proof = model.proof;
  if (!proof) return [make("p", "menu-text", "This is measured when a worker loads the adapter: run it once.")];
  const rows = make("dl", "facts-table");
  const row = (name, value) => {
    const line = make("div");
    line.append(make("dt", "", name), make("dd", "num", value));
    rows.append(line);
  };
  row("Base unchanged", proof.base_bit_equal ? "yes, bit for bit" : "no");
  row("Largest change of a logit", proof.max_delta.toPrecision(4));
  row("Base", model.base);
  row("Adapter SHA-256", proof.adapter_sha256);
  return [make("p", "menu-text", proof.detail), rows];
}

customElements.define("proof-badge", ProofBadge);
