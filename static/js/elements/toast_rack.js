// Short notices in a corner, some with Undo. The server sends them as a "toast" event through htmx, the page calls show().

import { icon, make } from "../lib/dom.js";

const SECONDS = 8;

class ToastRack extends HTMLElement {
  connectedCallback() {
    document.body.addEventListener("toast", ({ detail }) => this.show(detail));
    document.body.addEventListener("htmx:responseError", ({ detail }) => this.show({ text: errorIn(detail.xhr), bad: true }));
    document.body.addEventListener("htmx:sendError", () => this.show({ text: "The server does not answer. Try again.", bad: true }));
  }

  /** `undo` is a function, or an address to which htmx posts, on a button called `action`; `open` an address to go to. */
  show({ text, undo = null, action = "Undo", open = null, bad = false }) {
    const toast = make("div", bad ? "toast bad" : "toast");
    toast.setAttribute("role", bad ? "alert" : "status");
    toast.append(make("span", "", text));
    if (undo) {
      const button = make("button", "button ghost", action);
      button.type = "button";
      button.addEventListener("click", () => {
        toast.remove();
        if (typeof undo === "function") undo();
        else window.htmx.ajax("POST", undo, { target: "#preset-list" });
      });
      toast.append(button);
    }
    if (open) {
      const link = make("a", "button ghost", "Open");
      link.href = open;
      toast.append(link);
    }
    const close = make("button", "icon-button small");
    close.type = "button";
    close.setAttribute("aria-label", "Dismiss");
    close.append(icon("close"));
    close.addEventListener("click", () => toast.remove());
    toast.append(close);
    this.append(toast);
    while (this.children.length > 3) this.firstElementChild.remove();
    this.#leave(toast);
  }

  /** It stays while the pointer or the focus is on it. */
  #leave(toast) {
    setTimeout(() => (toast.matches(":hover, :focus-within") ? this.#leave(toast) : toast.remove()), SECONDS * 1000);
  }
}

function errorIn(xhr) {
  const plain = xhr.getResponseHeader("Content-Type")?.startsWith("text/plain");
  return plain && xhr.responseText ? xhr.responseText : `The server answered ${xhr.status}. Reload the page and try again.`;
}

customElements.define("toast-rack", ToastRack);
