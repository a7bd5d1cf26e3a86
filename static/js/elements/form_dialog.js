// The one dialog into which htmx loads forms. Opens when something was swapped in, closes when the server says so.

class FormDialog extends HTMLElement {
  connectedCallback() {
    this.dialog = this.querySelector("dialog");
    const body = this.querySelector("#dialog-body");
    body.addEventListener("htmx:afterSwap", () => this.#open(body));
    document.body.addEventListener("dialog:close", () => this.dialog.close());
    this.addEventListener("click", ({ target }) => {
      if (target === this.dialog || target.closest("[data-close-dialog]")) this.dialog.close();
    });
    this.dialog.addEventListener("close", () => body.replaceChildren());
    document.addEventListener("click", ({ target }) => {
      const opener = target.closest?.("[data-open]");
      if (opener) document.getElementById(opener.dataset.open)?.showModal();
    });
  }

  #open(body) {
    if (!body.hasChildNodes()) return;
    this.dialog.setAttribute("aria-label", body.querySelector("h2")?.textContent ?? "Dialog");
    if (!this.dialog.open) this.dialog.showModal();
    body.querySelector("[autofocus]")?.focus();
  }
}

customElements.define("form-dialog", FormDialog);
