// Auto, light, dark: one button that goes round.

import { setLabel } from "../lib/dom.js";

const NEXT = { auto: "light", light: "dark", dark: "auto" };

class ThemeToggle extends HTMLElement {
  connectedCallback() {
    this.#show();
    this.addEventListener("click", () => {
      const theme = NEXT[document.documentElement.dataset.theme] ?? "auto";
      document.documentElement.dataset.theme = theme;
      try {
        localStorage.setItem("diptych.theme", theme);
      } catch {
        // Storage is forbidden: the choice holds for this page.
      }
      this.#show();
    });
  }

  #show() {
    setLabel(this.firstElementChild, `Theme: ${document.documentElement.dataset.theme}`);
  }
}

customElements.define("theme-toggle", ThemeToggle);
