// The title: which preset or run this is, whether it was edited, and the ways to keep and share it (forms by htmx).

import { part, setText } from "../lib/dom.js";

class PresetBar extends HTMLElement {
  connectedCallback() {
    this.addEventListener("click", ({ target }) => {
      const name = target.closest("[data-do]")?.dataset.do;
      if (name === "save") this.save();
      else if (name === "versions") this.#open(`/presets/${this.preset.id}/versions`);
      else if (name === "share") this.#open(this.run && (!this.preset || this.edited) ? `/share/run/${this.run}` : `/share/preset/${this.preset.id}`);
      else if (name === "share-run") this.#open(`/share/run/${this.run}`);
    });
  }

  show({ preset, run, runTitle, edited }) {
    Object.assign(this, { preset, run, edited });
    setText(part(this, "name"), preset?.name ?? (run ? runTitle || "Run" : "New prompt"));
    part(this, "name").title = preset?.description ?? "";
    setText(part(this, "note"), preset ? version(preset) : run ? "run, not saved as a preset" : "not saved");
    part(this, "edited").hidden = !preset || !edited;
    const save = this.#button("save");
    setText(save, preset ? "Save version" : "Save");
    this.#button("versions").hidden = !preset;
    this.#button("share").hidden = !preset && !run;
    this.#button("share").title = run && (!preset || edited) ? "Share this run" : "Share this preset";
    this.#button("share-run").hidden = !(preset && run && !edited);
  }

  save() {
    this.#open(this.preset ? `/presets/${this.preset.id}/save?base=${this.preset.number}` : "/presets/new");
  }

  #open(url) {
    window.htmx.ajax("GET", url, { target: "#dialog-body" });
  }

  #button(name) {
    return this.querySelector(`[data-do="${name}"]`);
  }
}

function version({ number, newest, note }) {
  const words = number < newest ? `v${number} of ${newest}, an older one` : `v${number}`;
  return note ? `${words} · ${note}` : words;
}

customElements.define("preset-bar", PresetBar);
