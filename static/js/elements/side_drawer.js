// A side of the page: a column where there is room, else a drawer over the page that a button in the bar opens.

class SideDrawer extends HTMLElement {
  connectedCallback() {
    this.button = document.querySelector(`[data-drawer="${this.dataset.side}"]`);
    this.button?.addEventListener("click", () => this.toggle());
    this.addEventListener("click", ({ target }) => {
      if (target === this || target.closest("[data-close-drawer]")) this.toggle(false);
    });
    this.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.isOpen) return;
      event.stopPropagation(); // Esc closes what lies on top first, and does not stop the run under it
      this.toggle(false);
    });
  }

  get isOpen() {
    return this.hasAttribute("open");
  }

  /** In a wide window the same call folds the column away. */
  toggle(open = !this.isOpen) {
    this.toggleAttribute("open", open);
    this.button?.setAttribute("aria-expanded", String(open));
    if (open) this.querySelector("input, button, a, [tabindex]")?.focus();
    else if (this.contains(document.activeElement)) this.button?.focus();
  }
}

customElements.define("side-drawer", SideDrawer);
