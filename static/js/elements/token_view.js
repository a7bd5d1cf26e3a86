// An answer token by token, each tinted by what one wants to see of it. Tells "token" {index, span, how} when one is looked
// at, and "token-left". Spans are added a slice a frame, so that a long answer never holds the page up; what has been
// built is only added to. One token is a tab stop, arrow keys walk from there.

import { make, tell } from "../lib/dom.js";
import { share, levelOf } from "../lib/tints.js";
import { Anchor, inLine, visible } from "../lib/token_text.js";

const SLICE = 400; // tokens of one frame
const WAITS = "·"; // stands for what is part of a character, until the character is whole
const LINES = 48; // tokens after which the next line end begins a new block, which the browser can leave out of sight

class TokenView extends HTMLElement {
  constructor() {
    super();
    this.tokens = [];
    this.spans = [];
    this.current = -1;
  }

  connectedCallback() {
    if (this.listening) return;
    this.listening = true;
    this.addEventListener("pointermove", (event) => this.#hover(event));
    this.addEventListener("pointerleave", () => {
      this.hovered = null;
      tell(this, "token-left");
    });
    this.addEventListener("click", ({ target }) => this.#press(target));
    this.addEventListener("focusout", ({ relatedTarget }) => {
      if (relatedTarget && !this.contains(relatedTarget) && !relatedTarget.closest("token-card")) tell(this, "token-done");
    });
    this.addEventListener("focusin", ({ target }) => this.#focused(target));
    this.addEventListener("keydown", (event) => this.#walk(event));
  }

  /**
   * `tokens` are insights or null; `text` is what they wrote; `before` stands in front of them and is no token;
   * `given` of them were a prefix, the last of which `branched`; `tint` colours; `fork` is a token to mark, or -1;
   * `ended` tells that no more will come.
   */
  show({ key, tokens, text, before = "", given = 0, tint, fork = -1, label, ended = false }) {
    const grown = key === this.key && given === this.given && tokens.length >= this.tokens.length && before === this.before;
    const kept = grown && (this.tokens.length === 0 || this.tokens.at(-1) === tokens[this.tokens.length - 1]);
    if (!kept) this.#clear();
    Object.assign(this, { key, tokens, text, before, given, ended });
    if (this.getAttribute("aria-label") !== label) this.setAttribute("aria-label", label);
    if (tint !== this.tint) this.#retint(tint);
    this.#mark(fork);
    this.#build();
  }

  /** Go to a token: bring it into view, and the keyboard to it. */
  go(index) {
    while (this.spans.length <= index && this.spans.length < this.tokens.length) this.#slice();
    const span = this.spans[index];
    if (!span) return;
    span.scrollIntoView({ block: "nearest", inline: "nearest" });
    this.#rove(index);
    span.focus({ preventScroll: true });
  }

  #clear() {
    if (this.querySelector(".looked-at")) tell(this, "token-done");
    this.replaceChildren();
    Object.assign(this, { spans: [], tokens: [], block: null, open: null, current: -1, forked: -1, before: "", anchor: new Anchor() });
  }

  #build() {
    if (this.frame) return;
    if (this.spans.length >= this.tokens.length) return this.ended && this.#settle(this.text.length);
    this.#slice();
    if (this.spans.length >= this.tokens.length) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      this.#build();
    });
  }

  #slice() {
    if (!this.block && this.before) {
      this.#open();
      const unscored = make("span", "unscored", visible(this.before));
      unscored.title = "Nothing stands before the first token by which a model could judge it.";
      this.block.append(unscored);
    }
    const end = Math.min(this.tokens.length, this.spans.length + SLICE);
    for (let index = this.spans.length; index < end; index++) this.#add(index);
    if (end === this.tokens.length && this.ended) this.#settle(this.text.length);
    if (this.current < 0 && this.spans.length) this.#rove(0);
    if (this.forking >= 0) this.#mark(this.forking);
  }

  #add(index) {
    const seen = this.tokens[index];
    if (!seen && index > 0 && !this.tokens[index - 1]) return this.spans.push(this.spans[index - 1]); // one for a stretch
    if (!this.block || (this.block.childElementCount >= LINES && this.lineEnded)) this.#open();
    const span = make("span", this.#classOf(index));
    span.dataset.i = index;
    const place = seen && this.anchor.find(this.text, seen.text, Boolean(this.unsettled));
    if (place) this.#settle(place.start);
    const shown = seen && !isPiece(seen) ? visible(seen.text) : WAITS;
    write(span, shown);
    if (!seen || isPiece(seen)) this.unsettled = { span, from: this.unsettled?.from ?? this.anchor.at };
    this.lineEnded = shown.endsWith("\n");
    this.block.append(span);
    this.spans.push(span);
  }

  /** What holes, and tokens that are parts of characters, wrote together is known when the text behind them is. */
  #settle(end) {
    if (!this.unsettled) return;
    const { span, from } = this.unsettled;
    const text = this.text.slice(from, end);
    if (text) {
      span.replaceChildren();
      write(span, visible(text));
      span.classList.remove("piece");
    }
    this.unsettled = null;
  }

  #open() {
    this.block = make("div", "token-lines");
    this.append(this.block);
  }

  #classOf(index) {
    const seen = this.tokens[index];
    const level = levelOf(this.tint, seen);
    let name = level === null ? "tok unknown" : `tok l${level}`;
    if (index < this.given) name += index === this.given - 1 ? " branched" : " given";
    if (seen && (isPiece(seen) || seen.text === "")) name += " piece";
    return name;
  }

  #retint(tint) {
    this.tint = tint;
    this.dataset.tint = tint;
    this.spans.forEach((span, index) => {
      const name = this.#classOf(Number(span.dataset.i) === index ? index : Number(span.dataset.i));
      if (span.className !== name) span.className = name;
    });
    this.forked = -1;
  }

  #mark(fork) {
    this.forking = fork;
    if (fork === this.forked) return;
    this.spans[this.forked]?.classList.remove("fork");
    this.forked = this.spans[fork] ? fork : -1;
    this.spans[this.forked]?.classList.add("fork");
  }

  #indexOf(target) {
    const span = target.closest?.(".tok");
    return span && this.contains(span) ? Number(span.dataset.i) : -1;
  }

  #point(target, how) {
    const index = this.#indexOf(target);
    if (index < 0) return how === "hover" && tell(this, "token-left");
    tell(this, "token", { index, span: this.spans[index], how });
  }

  /** Text that moves under a pointer at rest is not pointed at. */
  #hover({ target, pointerType, movementX, movementY }) {
    if (pointerType !== "mouse" || (movementX === 0 && movementY === 0)) return;
    const token = target.closest(".tok");
    if (token === this.hovered) return;
    this.hovered = token;
    this.#point(target, "hover");
  }

  #press(target) {
    const index = this.#indexOf(target);
    if (index < 0) return;
    this.#rove(index);
    this.spans[index].focus({ preventScroll: true });
    this.#point(this.spans[index], "press");
  }

  #focused(target) {
    const index = this.#indexOf(target);
    if (index < 0) return;
    this.#rove(index);
    this.#point(target, "focus");
  }

  /** One token at a time can be reached with Tab, and only that one is named: names for thousands cost too much. */
  #rove(index) {
    if (index === this.current && this.spans[index]?.tabIndex === 0) return;
    const before = this.spans[this.current];
    if (before) for (const name of ["tabindex", "role", "aria-label"]) before.removeAttribute(name);
    this.current = index;
    const span = this.spans[index];
    span.tabIndex = 0;
    span.setAttribute("role", "button");
    span.setAttribute("aria-label", this.#words(index));
  }

  #words(index) {
    const seen = this.tokens[index];
    if (!seen) return `Token ${index + 1}, no insight`;
    const rank = typeof seen.rank === "number" ? `, rank ${seen.rank}` : "";
    return `Token ${index + 1}, ${inLine(seen.text)}, ${share(seen.logprob)}${rank}`;
  }

  #walk(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.#indexOf(event.target);
    if (at < 0) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      return tell(this, "token", { index: at, span: this.spans[at], how: "enter" });
    }
    const next = { ArrowRight: () => at + this.#width(at), ArrowLeft: () => at - 1, Home: () => 0, End: () => this.spans.length - 1, ArrowDown: () => this.#line(at, 1), ArrowUp: () => this.#line(at, -1) }[event.key]?.();
    if (next === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    if (next >= 0 && next < this.spans.length) this.go(Number(this.spans[next].dataset.i));
  }

  /** A stretch without insight is walked over in one step. */
  #width(at) {
    let end = at + 1;
    while (this.spans[end] && this.spans[end] === this.spans[at]) end++;
    return end - at;
  }

  /** The token on the line above or below that is nearest to where this one begins. */
  #line(at, step) {
    const from = this.spans[at].getClientRects()[0];
    let found = -1;
    let line = null;
    let nearest = Infinity;
    for (let i = at + step; i >= 0 && i < this.spans.length; i += step) {
      const box = this.spans[i].getClientRects()[0];
      if (!box || Math.abs(box.top - from.top) < 4) continue;
      line ??= box.top;
      if (Math.abs(box.top - line) > 4) break;
      const far = Math.abs(box.left - from.left);
      if (far < nearest) [found, nearest] = [i, far];
    }
    return found < 0 ? at : found;
  }
}

/** Nothing but parts of characters. */
const isPiece = ({ text }) => /^\ufffd+$/u.test(text);

function write(span, text) {
  const lines = text.split("\n");
  span.append(lines[0]);
  for (const line of lines.slice(1)) span.append(make("i", "line-end"), `\n${line}`);
}

customElements.define("token-view", TokenView);
