// A link in a field with a button that copies it.

class CopyLink extends HTMLElement {
  connectedCallback() {
    const field = this.querySelector("input");
    const button = this.querySelector("button");
    button.addEventListener("click", async () => {
      field.select();
      try {
        await navigator.clipboard.writeText(field.value);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Press Ctrl+C"; // no clipboard without HTTPS: the text is selected
      }
    });
  }
}

customElements.define("copy-link", CopyLink);
