// A list of texts or token ids, as chips behind which the next one is written.

import { cleanId, cleanStrings } from "../lib/params.js";
import { icon, make, part } from "../lib/dom.js";

export class ChipsField {
  constructor(row, parameter, limits, change) {
    Object.assign(this, { parameter, limits, change });
    this.box = part(row, "chips");
    this.entry = part(row, "entry");
    this.entry.addEventListener("keydown", (event) => this.#key(event));
    this.entry.addEventListener("blur", () => this.#add());
  }

  show(value, on) {
    this.items = on ? value : [];
    for (const chip of this.box.querySelectorAll(".stop-chip")) chip.remove();
    this.items.forEach((item, index) => {
      const chip = make("span", "stop-chip", JSON.stringify(item).replace(/^"|"$/g, ""));
      const remove = make("button");
      remove.type = "button";
      remove.setAttribute("aria-label", `Remove ${this.#what} ${index + 1}`);
      remove.append(icon("close"));
      remove.addEventListener("click", () => this.change(this.items.toSpliced(index, 1)));
      chip.append(remove);
      this.entry.before(chip);
    });
    this.entry.hidden = this.items.length >= this.parameter.most;
  }

  get #what() {
    return { stop: "stop sequence", bad_words: "banned word", stop_token_ids: "stop token" }[this.parameter.name] ?? this.parameter.label;
  }

  #key(event) {
    if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      this.#add();
    } else if (event.key === "Backspace" && !this.entry.value && this.items.length) {
      this.change(this.items.slice(0, -1));
    }
  }

  #add() {
    const text = this.entry.value;
    if (!text) return;
    this.entry.value = "";
    if (this.parameter.kind === "ids") {
      const ids = text.split(/[\s,]+/).map(cleanId).filter((id) => id !== null);
      if (ids.length) this.change([...new Set([...this.items, ...ids])].slice(0, this.parameter.most));
      return;
    }
    const plain = text.replaceAll("\\n", "\n").replaceAll("\\t", "\t");
    this.change(cleanStrings([...this.items, plain], this.parameter.most, this.limits.stop_chars));
  }
}
