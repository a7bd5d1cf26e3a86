// Token ids and what is added to their scores: a row for each, and one for the next.

import { cleanBias, cleanId } from "../lib/params.js";
import { icon, make, part, setText } from "../lib/dom.js";

export class BiasField {
  constructor(row, parameter, limits, change) {
    Object.assign(this, { parameter, limits, change });
    this.list = part(row, "biases");
    this.id = part(row, "bias-id");
    this.value = part(row, "bias-value");
    this.trouble = part(row, "trouble");
    for (const field of [this.id, this.value]) {
      field.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" || event.isComposing) return;
        event.preventDefault();
        this.#add();
      });
    }
    part(row, "bias-add").addEventListener("click", () => this.#add());
  }

  show(value, on) {
    this.biases = on ? value : {};
    const key = JSON.stringify(this.biases);
    if (key === this.shown) return;
    this.shown = key;
    this.list.replaceChildren(...Object.entries(this.biases).map(([id, bias]) => this.#row(id, bias)));
  }

  #row(id, bias) {
    const item = make("li", "bias num");
    const remove = make("button", "icon-button small");
    remove.type = "button";
    remove.setAttribute("aria-label", `Remove the bias of token ${id}`);
    remove.append(icon("close"));
    remove.addEventListener("click", () => {
      const { [id]: _, ...rest } = this.biases;
      this.change(Object.keys(rest).length ? rest : null);
    });
    item.append(make("span", "", `token ${id}`), make("span", "", `${bias > 0 ? "+" : ""}${bias}`.replace("-", "−")), remove);
    return item;
  }

  #add() {
    const id = cleanId(this.id.value);
    const bias = cleanBias(this.value.value, this.limits.bias);
    if (id === null || bias === null) return this.#say(id === null ? "A token id is a whole number, as the token view shows it." : `A bias is a number from −${this.limits.bias} to ${this.limits.bias}.`);
    if (Object.keys(this.biases).length >= this.parameter.most) return this.#say(`At most ${this.parameter.most} tokens.`);
    this.#say("");
    this.id.value = this.value.value = "";
    this.id.focus();
    this.change({ ...this.biases, [id]: bias });
  }

  #say(text) {
    setText(this.trouble, text);
    this.trouble.hidden = !text;
  }
}
