// One of a few words, side by side.

import { part } from "../lib/dom.js";

let counter = 0;

export class ChoiceField {
  constructor(row, parameter, limits, change) {
    this.box = part(row, "choice");
    const name = `choice-${counter++}`; // radios of one name are one group, and each panel has its own
    for (const radio of this.box.querySelectorAll("input")) {
      radio.name = name;
      radio.addEventListener("change", () => change(radio.value));
    }
  }

  show(value, on) {
    for (const radio of this.box.querySelectorAll("input")) radio.checked = on && radio.value === value;
  }
}
