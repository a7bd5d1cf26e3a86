// What the tokens are tinted by and what the steps mean, the switches for insight and beliefs, the way to the next
// disagreement. Tells "act" {name: "tint" | "insight" | "beliefs" | "next"}.

import { make, part, setText, tell } from "../lib/dom.js";
import { STEPS, TINTS } from "../lib/tints.js";

class TokenBar extends HTMLElement {
  connectedCallback() {
    this.select = part(this, "tint");
    for (const [name, { label }] of Object.entries(TINTS)) this.select.append(Object.assign(make("option", "", label), { value: name }));
    this.select.addEventListener("change", () => tell(this, "act", { name: "tint", tint: this.select.value }));
    for (const name of ["insight", "beliefs"]) {
      part(this, name)?.addEventListener("change", ({ target }) => tell(this, "act", { name, on: target.checked }));
    }
    part(this, "next").addEventListener("click", ({ shiftKey }) => tell(this, "act", { name: "next", step: shiftKey ? -1 : 1 }));
    this.legend = part(this, "legend");
    for (let level = 0; level < STEPS; level++) this.legend.append(make("span", `tok l${level}`));
  }

  /** `tints` are those that there are figures for; null while nothing is known. */
  show({ shown, tint, tints, insight, beliefs, xray, why, shaded }) {
    this.hidden = !shown;
    this.legend.dataset.tint = tint;
    for (const option of this.select.options) option.disabled = tints !== null && !tints.includes(option.value) && option.value !== tint;
    this.select.value = tint;
    const { words, hint } = TINTS[tint];
    [...this.legend.children].forEach((step, level) => (step.title = words[level]));
    setText(part(this, "least"), words[0]);
    setText(part(this, "most"), words.at(-1));
    this.select.title = hint;
    part(this, "next").title = `Go to the next ${shaded ? "token on which the models disagree" : "token that was not expected"} (N)`;
    setText(part(this, "next-words"), shaded ? " disagreement" : " surprise");
    if (!part(this, "insight")) return;
    part(this, "insight").closest("label").hidden = xray;
    part(this, "insight").checked = insight;
    part(this, "beliefs").checked = beliefs;
    part(this, "beliefs").disabled = Boolean(why) && !beliefs;
    part(this, "beliefs").closest("label").title = why ?? "Each model also reads what the others of its base write, token by token, and says what it would have thought.";
  }
}

customElements.define("token-bar", TokenBar);
