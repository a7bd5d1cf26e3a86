// All parameters, shared or of one lane. In a lane a value of its own is "modified", and the dot beside it takes it back.

import "./param_row.js";
import { resolve, whileOff } from "../lib/params.js";
import { part, setText, tell } from "../lib/dom.js";

const XRAY = ["prompt_logprobs"];

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

  /** `models` are those of the lanes that it speaks for. For an X-ray only what it sends is there. */
  show({ panel, overrides = null, models, readOnly = false, xray = false }) {
    let on = 0;
    for (const parameter of this.catalog) {
      const row = this.#row(parameter.name);
      row.hidden = xray && !XRAY.includes(parameter.name);
      const shown = resolve(parameter, panel, overrides, models[0]);
      const words = new Set(models.map((model) => whileOff(parameter, model)));
      const off = words.size ? [...words].join(" / ") : shown.off;
      row.show({ ...shown, off, ...unable(parameter, models) });
      if (parameter.more && shown.on && !row.hidden) on++;
    }
    if (xray) this.querySelector("details").open = true;
    setText(part(this, "more-count"), on ? `${on} on` : "");
    if (readOnly) for (const field of this.querySelectorAll("input, button")) field.disabled = true;
  }

  #row(name) {
    return this.querySelector(`param-row[data-name="${name}"]`);
  }
}

/** Whether the engines of these models have a parameter: `cannot` where none has it, else a word on those without. */
function unable({ name }, models) {
  const reasons = models.filter((model) => model.cannot?.[name]).map((model) => [model.title || model.id, model.cannot[name]]);
  if (reasons.length === 0) return { cannot: null, some: "" };
  if (reasons.length === models.length) return { cannot: [...new Set(reasons.map(([, why]) => why))].join(" "), some: "" };
  return { cannot: null, some: [...new Map(reasons)].map(([title, why]) => `Not for ${title}: ${why}`).join(" ") };
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
