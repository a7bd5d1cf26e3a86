// One parameter: switch, number box, slider or chips. Shows what the resolver says and tells "param" {name, value},
// where null is off and undefined means "as all lanes have it".

import { cleanNumber, cleanStops } from "../lib/params.js";
import { icon, make, part, setText, tell } from "../lib/dom.js";

export class ParamRow extends HTMLElement {
  /** `parameter` is its row of the catalog, `suffix` tells lanes apart for screen readers. */
  prepare(parameter, limits, suffix) {
    Object.assign(this, { parameter, limits });
    this.on = part(this, "on");
    this.number = part(this, "number");
    this.slider = part(this, "slider");
    this.chips = part(this, "chips");
    for (const field of suffix ? this.querySelectorAll("[aria-label]") : []) {
      field.setAttribute("aria-label", field.getAttribute("aria-label") + suffix);
    }
    if (suffix) this.on.setAttribute("aria-label", parameter.label + suffix);
    this.on.addEventListener("change", () => this.#change(this.on.checked ? this.value : null));
    part(this, "reset").addEventListener("click", () => this.#change(undefined));
    part(this, "dice")?.addEventListener("click", () => this.#change(Math.floor(Math.random() * 100_000)));
    this.slider?.addEventListener("input", () => this.#change(cleanNumber(parameter, this.slider.value)));
    this.number?.addEventListener("change", () => this.#typed());
    this.number?.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) this.#typed();
    });
    if (this.chips) this.#prepareChips();
  }

  show({ on, value, modified, off }) {
    this.value = value;
    this.on.checked = on;
    this.classList.toggle("off", !on);
    this.classList.toggle("modified", modified);
    part(this, "reset").hidden = !modified;
    setText(part(this, "off"), on ? "" : `${off[0].toUpperCase()}${off.slice(1)}.`);
    if (this.number) {
      this.number.placeholder = on ? "" : "off";
      if (document.activeElement !== this.number || this.number.value === "") this.number.value = on ? value : "";
      else if (cleanNumber(this.parameter, this.number.value) !== value) this.number.value = on ? value : "";
      this.slider.value = value;
    } else {
      this.#showChips(on ? value : []);
    }
  }

  #typed() {
    if (this.number.value === "") return this.#change(null);
    const value = cleanNumber(this.parameter, this.number.value);
    if (value !== null) this.number.value = value;
    this.#change(value);
  }

  #change(value) {
    tell(this, "param", { name: this.parameter.name, value });
  }

  #prepareChips() {
    this.entry = part(this, "entry");
    const add = () => {
      if (!this.entry.value) return;
      const stop = this.entry.value.replaceAll("\\n", "\n").replaceAll("\\t", "\t");
      this.entry.value = "";
      this.#change(cleanStops([...(this.on.checked ? this.value : []), stop], this.limits));
    };
    this.entry.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing) {
        event.preventDefault();
        add();
      } else if (event.key === "Backspace" && !this.entry.value && this.on.checked && this.value.length) {
        this.#change(this.value.slice(0, -1));
      }
    });
    this.entry.addEventListener("blur", add);
  }

  #showChips(stops) {
    for (const chip of this.chips.querySelectorAll(".stop-chip")) chip.remove();
    stops.forEach((stop, index) => {
      const chip = make("span", "stop-chip", JSON.stringify(stop).slice(1, -1));
      const remove = make("button");
      remove.type = "button";
      remove.setAttribute("aria-label", `Remove stop sequence ${index + 1}`);
      remove.append(icon("close"));
      remove.addEventListener("click", () => this.#change(stops.toSpliced(index, 1)));
      chip.append(remove);
      this.entry.before(chip);
    });
    this.entry.hidden = stops.length >= this.limits.stops;
  }
}

customElements.define("param-row", ParamRow);
