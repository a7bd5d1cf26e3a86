// Which preset the draft belongs to, and what becomes of that when it is saved, renamed, deleted or restored by htmx.

import { fingerprint } from "./draft.js";

export class PresetBinding {
  constructor(bench) {
    this.bench = bench;
    const { body } = document;
    body.addEventListener("htmx:configRequest", ({ detail }) => {
      if (detail.elt.closest("[data-with-spec]")) detail.parameters.set("spec", JSON.stringify(bench.spec));
    });
    body.addEventListener("preset:saved", ({ detail }) => this.#saved(detail));
    body.addEventListener("preset:renamed", ({ detail }) => this.#renamed(detail));
    body.addEventListener("preset:deleted", ({ detail }) => this.#deleted(detail.id));
    body.addEventListener("preset:restored", ({ detail }) => this.#restored(detail.id));
  }

  /** True when the draft is no more what the version holds from which it began. */
  get edited() {
    const { draft, spec } = this.bench;
    return Boolean(draft.preset) && fingerprint(spec) !== draft.preset.spec;
  }

  #saved({ id, number, newest, name, description, note, url }) {
    const { bench } = this;
    const preset = { id, number, newest, name, description, note, spec: fingerprint(bench.spec) };
    bench.edit((draft) => ({ ...draft, preset }));
    // A run stays what its address shows; a draft becomes the preset.
    if (!bench.place.startsWith("run:")) {
      bench.moveTo(`preset:${id}`, url, bench.place === "new" ? { ...bench.draft, preset: null } : bench.draft);
    }
    bench.keep();
  }

  #renamed({ id, name, description }) {
    if (this.bench.draft.preset?.id !== id) return;
    this.bench.edit((draft) => ({ ...draft, preset: { ...draft.preset, name, description } }));
  }

  #deleted(id) {
    if (this.bench.draft.preset?.id !== id) return;
    this.gone = this.bench.draft.preset;
    this.bench.edit((draft) => ({ ...draft, preset: null }));
  }

  #restored(id) {
    if (this.gone?.id === id) this.bench.edit((draft) => ({ ...draft, preset: this.gone }));
  }
}
