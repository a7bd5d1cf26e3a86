// The prompt: messages of a chat, or one text to complete. Both are kept when the kind changes.
// Tells "edit" with a function from draft to draft, and "undoable" when something was taken away.

import { moved, newMessage } from "../lib/draft.js";
import { part, setLabel, tell } from "../lib/dom.js";

const GROWS = CSS.supports("field-sizing", "content");

class PromptEditor extends HTMLElement {
  connectedCallback() {
    this.list = part(this, "messages");
    this.template = part(this, "message");
    this.text = part(this, "text");
    this.rows = new Map(); // message id -> element
    this.text.setAttribute("aria-label", "Text to complete");
    this.text.addEventListener("input", () => {
      grow(this.text);
      tell(this, "edit", (draft) => ({ ...draft, text: this.text.value }));
    });
  }

  show(draft) {
    const chat = draft.mode === "chat";
    this.list.hidden = !chat;
    part(this, "completion").hidden = chat;
    write(this.text, draft.text);
    this.#dropGone(draft.messages);
    let before = null;
    draft.messages.forEach((message, index) => {
      const row = this.rows.get(message.id) ?? this.#add(message.id);
      const place = before ? before.nextSibling : this.list.firstChild;
      if (row !== place) this.list.insertBefore(row, place);
      this.#fill(row, message, index);
      before = row;
    });
    this.#markPrompt(draft);
  }

  /** The field that a person most likely wants to write in. */
  focusPrompt(id = null) {
    const row = id && this.rows.get(id);
    (row ? part(row, "content") : this.querySelector('[data-testid="prompt"]'))?.focus();
  }

  #dropGone(messages) {
    const ids = new Set(messages.map((message) => message.id));
    for (const [id, row] of this.rows) {
      if (ids.has(id)) continue;
      row.remove();
      this.rows.delete(id);
    }
  }

  #fill(row, { role, content }, index) {
    const number = index + 1;
    row.dataset.role = role;
    row.setAttribute("aria-label", `Message ${number}`);
    part(row, "role").value = role;
    part(row, "role").setAttribute("aria-label", `Role of message ${number}`);
    const field = part(row, "content");
    field.setAttribute("aria-label", `Message ${number}, ${role}`);
    field.placeholder = role === "system" ? "How the model should behave" : "Write a message";
    write(field, content);
    const remove = row.querySelector('[data-do="remove"]');
    if (remove) setLabel(remove, `Remove message ${number}`);
    row.querySelector('[data-do="grip"]').setAttribute("aria-label", `Move message ${number}`);
  }

  /** The main prompt is the last user message, or the text. Scripts find it by its test id. */
  #markPrompt(draft) {
    const last = draft.mode === "chat" ? (draft.messages.findLast(({ role }) => role === "user") ?? draft.messages.at(-1)) : null;
    const main = draft.mode === "chat" ? last && part(this.rows.get(last.id), "content") : this.text;
    for (const field of this.querySelectorAll('[data-testid="prompt"]')) if (field !== main) delete field.dataset.testid;
    if (main && main.dataset.testid !== "prompt") main.dataset.testid = "prompt";
  }

  #add(id) {
    const row = this.template.content.firstElementChild.cloneNode(true);
    this.rows.set(id, row);
    const field = part(row, "content");
    field.addEventListener("input", () => {
      grow(field);
      this.#edit(id, { content: field.value });
    });
    part(row, "role").addEventListener("change", ({ target }) => this.#edit(id, { role: target.value }));
    row.querySelector('[data-do="remove"]')?.addEventListener("click", () => this.#remove(id));
    row.addEventListener("keydown", (event) => {
      const step = event.altKey && { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.#move(id, (from) => from + step);
      event.target.focus();
    });
    const grip = row.querySelector('[data-do="grip"]');
    grip.addEventListener("pointerdown", (event) => this.#drag(event, grip, row, id));
    return row;
  }

  #edit(id, change) {
    const apply = (message) => (message.id === id ? { ...message, ...change } : message);
    tell(this, "edit", (draft) => ({ ...draft, messages: draft.messages.map(apply) }));
  }

  #move(id, to) {
    tell(this, "edit", (draft) => {
      const from = draft.messages.findIndex((message) => message.id === id);
      return { ...draft, messages: moved(draft.messages, from, to(from)) };
    });
  }

  #remove(id) {
    let taken;
    tell(this, "edit", (draft) => {
      const index = draft.messages.findIndex((message) => message.id === id);
      taken = { index, message: draft.messages[index] };
      return { ...draft, messages: draft.messages.toSpliced(index, 1) };
    });
    const undo = (draft) => ({ ...draft, messages: draft.messages.toSpliced(taken.index, 0, taken.message) });
    tell(this, "undoable", { text: "Message removed.", undo });
  }

  /** Works alike for mouse, pen and finger: the message follows to wherever the pointer is among the others. */
  #drag(event, grip, row, id) {
    if (event.button !== 0) return;
    event.preventDefault();
    grip.focus();
    grip.setPointerCapture(event.pointerId);
    row.classList.add("dragged");
    const follow = ({ clientY }) => {
      const rows = [...this.list.children];
      const target = rows.findIndex((other) => clientY < other.getBoundingClientRect().bottom);
      this.#move(id, () => (target < 0 ? rows.length - 1 : target));
      if (!grip.hasPointerCapture(event.pointerId)) grip.setPointerCapture(event.pointerId);
    };
    const end = () => {
      row.classList.remove("dragged");
      grip.removeEventListener("pointermove", follow);
    };
    grip.addEventListener("pointermove", follow);
    grip.addEventListener("pointerup", end, { once: true });
    grip.addEventListener("pointercancel", end, { once: true });
  }
}

/** Add a message that fits after the others. */
export function withNextMessage(draft) {
  const role = draft.messages.at(-1)?.role === "user" ? "assistant" : "user";
  return { ...draft, mode: "chat", messages: [...draft.messages, newMessage(role)] };
}

function write(field, value) {
  if (field.value === value) return;
  field.value = value;
  grow(field);
}

/** For browsers whose textareas do not grow by themselves. */
function grow(field) {
  if (GROWS) return;
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

customElements.define("prompt-editor", PromptEditor);
