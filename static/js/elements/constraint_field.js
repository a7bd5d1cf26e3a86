// What an answer must look like: a kind, and its text. What is not complete is off, and says why.

import { readConstraint, writeConstraint } from "../lib/constraint.js";
import { part, setText } from "../lib/dom.js";

const HINTS = {
  json_schema: '{"type": "object", "properties": …}', regex: "[A-Z]{2}-\\d+", choice: "One choice on each line", grammar: 'start: "yes" | "no"',
};

export class ConstraintField {
  constructor(row, parameter, limits, change) {
    Object.assign(this, { limits, change });
    this.kind = part(row, "constraint-kind");
    this.text = part(row, "constraint-text");
    this.trouble = part(row, "trouble");
    this.texts = {}; // what was written for each kind, so that trying another loses nothing
    this.kind.addEventListener("change", () => {
      this.text.value = this.texts[this.kind.value] ?? "";
      this.#changed();
    });
    this.text.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.#changed(), 250);
    });
    this.text.addEventListener("blur", () => this.#changed());
  }

  show(value, on) {
    if (on && JSON.stringify(value) !== this.told) {
      const { kind, text } = writeConstraint(value);
      this.kind.value = kind;
      this.texts[kind] = text;
      if (this.text.value !== text) this.text.value = text;
      this.told = JSON.stringify(value);
      this.#say("");
    }
    if (!on) this.told = null;
    this.text.hidden = this.kind.value === "json_object";
    this.text.placeholder = HINTS[this.kind.value] ?? "";
  }

  #changed() {
    clearTimeout(this.typing);
    this.texts[this.kind.value] = this.text.value;
    const { constraint, trouble } = readConstraint(this.kind.value, this.text.value, this.limits);
    this.#say(trouble ? `Off: ${trouble}` : "");
    const told = constraint && JSON.stringify(constraint);
    if (told === (this.told ?? null)) return this.show(constraint, constraint !== null);
    this.told = told;
    this.change(constraint);
  }

  #say(text) {
    setText(this.trouble, text);
    this.trouble.hidden = !text;
  }
}
