// The text of an answer. Only Text nodes ever enter it, so what a model writes stays text, and textContent is the text.

const CHUNK = 2048; // characters of one node: a browser lays a long one out again with each addition

class AnswerText extends HTMLElement {
  #shown = "";

  get text() {
    return this.#shown;
  }

  /** Returns true if something was added or replaced. */
  show(text) {
    if (text === this.#shown) return false;
    if (text.startsWith(this.#shown)) this.#append(text.slice(this.#shown.length));
    else {
      this.replaceChildren();
      this.#append(text);
    }
    this.#shown = text;
    return true;
  }

  /** A range over the characters from `start` to `end`, for highlights. */
  range(start, end) {
    const range = new Range();
    let before = 0;
    let open = false;
    for (const node of this.childNodes) {
      const after = before + node.length;
      if (!open && start < after) {
        range.setStart(node, start - before);
        open = true;
      }
      if (open && end <= after) {
        range.setEnd(node, end - before);
        return range;
      }
      before = after;
    }
    return null;
  }

  #append(text) {
    const last = this.lastChild;
    if (last && last.length + text.length <= CHUNK) last.appendData(text);
    else for (let at = 0; at < text.length; at += CHUNK) this.append(document.createTextNode(text.slice(at, at + CHUNK)));
  }
}

customElements.define("answer-text", AnswerText);
