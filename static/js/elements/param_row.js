// One parameter: switch, and the field of its kind. Shows what the resolver says and tells "param" {name, value}, where
// null is off and undefined means "as all lanes have it".

import { cleanNumber } from "../lib/params.js";
import { part, setText, tell } from "../lib/dom.js";
import { BiasField } from "./bias_field.js";
import { ChipsField } from "./chips_field.js";
import { ChoiceField } from "./choice_field.js";
import { ConstraintField } from "./constraint_field.js";

const FIELDS = { strings: ChipsField, ids: ChipsField, choice: ChoiceField, biases: BiasField, constraint: ConstraintField };

export class ParamRow extends HTMLElement {
  /** `parameter` is its row of the catalog, `suffix` tells lanes apart for screen readers. */
  prepare(parameter, limits, suffix) {
    Object.assign(this, { parameter, limits });
    this.on = part(this, "on");
    this.number = part(this, "number");
    this.slider = part(this, "slider");
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
    const Field = FIELDS[parameter.kind];
    this.field = Field ? new Field(this, parameter, limits, (value) => this.#change(value)) : null;
  }

  /** `cannot` is why no lane's engine has it; `some` what to say where only some lack it. */
  show({ on, value, modified, off, cannot = null, some = "" }) {
    this.value = value;
    this.on.checked = on;
    // What cannot be had can still be switched off.
    this.on.disabled = Boolean(cannot) && !on;
    this.classList.toggle("cannot", Boolean(cannot));
    setText(part(this, "cannot"), cannot ? `Not possible: ${cannot}` : some);
    for (const field of this.querySelectorAll(".param-field :is(input, select, textarea, button), .param-number, .param-slider")) field.disabled = Boolean(cannot);
    this.classList.toggle("off", !on);
    this.classList.toggle("modified", modified);
    part(this, "reset").hidden = !modified;
    setText(part(this, "off"), on ? "" : `${off[0].toUpperCase()}${off.slice(1)}.`);
    if (this.number) {
      this.number.placeholder = on ? "" : "off";
      if (document.activeElement !== this.number || this.number.value === "") this.number.value = on ? value : "";
      else if (cleanNumber(this.parameter, this.number.value) !== value) this.number.value = on ? value : "";
      this.slider.value = value;
    }
    this.field?.show(value, on);
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
}

customElements.define("param-row", ParamRow);
