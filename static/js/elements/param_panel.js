// All parameters, shared or of one lane. In a lane a value of its own is "modified", and the dot beside it takes it back.

import "./param_row.js";
import { resolve, whileOff } from "../lib/params.js";
import { part, setText, tell } from "../lib/dom.js";

class ParamPanel extends HTMLElement {
  /** `key` is the lane, or null for the shared panel. */
  prepare({ catalog, limits, key = null, suffix = "" }) {
    this.catalog = catalog;
    if (!this.firstElementChild) {
      this.append(document.getElementById("parameters-template").content.cloneNode(true));
      customElements.upgrade(this);
    }
    for (const parameter of catalog) this.#row(parameter.name).prepare(parameter, limits, suffix);
    this.addEventListener("param", (event) => {
      event.stopPropagation();
      const { name, value } = event.detail;
      tell(this, "edit", key === null ? (draft) => withShared(draft, name, value) : (draft) => withOverride(draft, key, name, value));
    });
  }

  /** `models` are those of the lanes that it speaks for. */
  show({ panel, overrides = null, models, readOnly = false }) {
    let on = 0;
    for (const parameter of this.catalog) {
      const shown = resolve(parameter, panel, overrides, models[0]);
      const words = new Set(models.map((model) => whileOff(parameter, model)));
      this.#row(parameter.name).show({ ...shown, off: words.size ? [...words].join(" / ") : shown.off });
      if (parameter.more && shown.on) on++;
    }
    setText(part(this, "more-count"), on ? `${on} on` : "");
    if (readOnly) for (const field of this.querySelectorAll("input, button")) field.disabled = true;
  }

  #row(name) {
    return this.querySelector(`param-row[data-name="${name}"]`);
  }
}

function withShared(draft, name, value) {
  const on = value !== null && value !== undefined;
  const entry = { on, value: on ? value : draft.params[name].value };
  return { ...draft, params: { ...draft.params, [name]: entry } };
}

function withOverride(draft, key, name, value) {
  const lanes = draft.lanes.map((lane) => {
    if (lane.key !== key) return lane;
    const overrides = { ...lane.overrides, [name]: value };
    if (value === undefined) delete overrides[name];
    return { ...lane, overrides };
  });
  return { ...draft, lanes };
}

customElements.define("param-panel", ParamPanel);
