// How strongly an adapter counts: 1 as it was trained, which is not sent; 0 as its base; below 0 away from it.
// Tells "act" {name: "strength", strength}.

import { part, setText, tell } from "../lib/dom.js";

class StrengthDial extends HTMLElement {
  prepare(key) {
    this.slider = part(this, "slider");
    this.slider.addEventListener("input", () => {
      const value = Number(Number(this.slider.value).toFixed(2));
      tell(this, "act", { name: "strength", key, strength: value === 1 ? null : value });
    });
    part(this, "reset").addEventListener("click", () => tell(this, "act", { name: "strength", key, strength: null }));
  }

  show({ info, strength, index, readOnly }) {
    this.hidden = !info?.base && strength === null;
    if (this.hidden) return;
    const why = info?.cannot?.strength;
    const value = strength ?? 1;
    this.classList.toggle("set", strength !== null);
    this.slider.disabled = readOnly || Boolean(why && strength === null);
    if (Number(this.slider.value) !== value) this.slider.value = value;
    this.slider.setAttribute("aria-label", `Strength of lane ${index + 1}`);
    this.slider.setAttribute("aria-valuetext", strength === null ? "1, as it was trained" : String(value));
    this.title = why ? `No strength: ${why}` : "Strength of the fine-tuning: 1 as it was trained, 0 as its base, 2 twice as strong";
    setText(part(this, "value"), value.toFixed(2));
    part(this, "reset").hidden = strength === null || readOnly;
    setText(part(this, "why"), why ? "strength cannot be set" : "");
    part(this, "why").hidden = !why;
  }
}

customElements.define("strength-dial", StrengthDial);
