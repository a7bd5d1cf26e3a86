// What is known of one token, beside it: how likely it was, what else could have come, and what the other models thought.
// Choosing an alternative tells "act" {name: "branch"}. Shown by pointing, by the keyboard or by a tap; a tap or Enter
// keeps it open.

import { make, tell } from "../lib/dom.js";
import { share } from "../lib/tints.js";
import { inLine } from "../lib/token_text.js";

const LINGER = 160; // milliseconds in which a pointer may cross from the token to the card
const GAP = 6;
const PHONE = 600; // pixels of width up to which the card is a sheet, as in the style sheet

class TokenCard extends HTMLElement {
  connectedCallback() {
    this.addEventListener("pointerenter", () => clearTimeout(this.leaving));
    this.addEventListener("pointerleave", () => this.leave());
    this.addEventListener("keydown", (event) => this.#key(event));
    this.addEventListener("focusout", ({ relatedTarget }) => relatedTarget && !this.contains(relatedTarget) && relatedTarget !== this.span && this.close());
    document.addEventListener("pointerdown", ({ target }) => this.isOpen && !this.contains(target) && !target.closest?.("token-view") && this.close());
    document.addEventListener("scroll", () => this.isOpen && this.#place(), { capture: true, passive: true });
  }

  get isOpen() {
    return this.matches(":popover-open");
  }

  /**
   * `about` is {seen, index, name, tone, shadows: [{name, tone}], why: null or why it cannot branch, act}.
   * `how`: hover | focus | press | enter.
   */
  show(span, about, how) {
    clearTimeout(this.leaving);
    if (how === "hover" && this.pinned && this.isOpen) return;
    this.pinned = how !== "hover";
    this.span?.classList.remove("looked-at");
    this.span = span;
    span.classList.add("looked-at");
    this.#fill(about);
    if (!this.isOpen) this.showPopover();
    this.#place();
    if (innerWidth <= PHONE && span.getBoundingClientRect().bottom > this.getBoundingClientRect().top) span.scrollIntoView({ block: "center" });
    if (how === "enter") this.querySelector("button")?.focus({ preventScroll: true });
  }

  /** The pointer has gone; the card follows unless somebody holds it. */
  leave() {
    clearTimeout(this.leaving);
    if (!this.pinned) this.leaving = setTimeout(() => this.pinned || this.close(), LINGER);
  }

  close() {
    clearTimeout(this.leaving);
    const inside = this.contains(document.activeElement);
    this.span?.classList.remove("looked-at");
    if (inside) this.span?.focus({ preventScroll: true });
    this.pinned = false;
    if (this.isOpen) this.hidePopover();
  }

  #fill({ seen, index, name, tone, shadows, why, act }) {
    const head = make("div", "token-head");
    head.append(make("b", "token-text", inLine(seen.text)), make("span", "token-share num", share(seen.logprob)));
    const sides = make("div", "token-sides");
    const choose = why === null ? act : null;
    sides.append(side({ name, tone, view: seen, chosen: seen, choose, lead: true }));
    (seen.shades ?? []).forEach((shade, at) => sides.append(side({ ...shadows[at], view: shade, chosen: seen, choose })));
    sides.dataset.count = 1 + (seen.shades?.length ?? 0);
    const facts = [`token ${index + 1}`, ...(typeof seen.id === "number" ? [`id ${seen.id}`] : [])];
    const foot = make("p", "token-foot", why || (act && seen.top?.length ? "Choose another token to branch here." : ""));
    foot.hidden = !foot.textContent;
    if (seen.text === "") facts.unshift("special, no text");
    head.append(make("small", "num", facts.join(" · ")));
    this.replaceChildren(head, sides, foot);
  }

  #place() {
    if (!this.span?.isConnected) return this.close();
    if (innerWidth <= PHONE) return; // a sheet at the bottom edge
    const boxes = this.span.getClientRects();
    const at = boxes[boxes.length - 1];
    if (!at) return this.close();
    const { offsetWidth: width, offsetHeight: height } = this;
    const below = at.bottom + GAP;
    const top = below + height > innerHeight - GAP ? Math.max(GAP, at.top - height - GAP) : below;
    this.style.setProperty("left", `${Math.max(GAP, Math.min(at.left - 10, innerWidth - width - GAP))}px`);
    this.style.setProperty("top", `${top}px`);
  }

  #key(event) {
    const buttons = [...this.querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && at >= 0) {
      event.preventDefault();
      buttons[(at + step + buttons.length) % buttons.length].focus();
    } else if (event.key === "Escape" || event.key === "ArrowLeft" || event.key === "ArrowRight") {
      event.preventDefault();
      event.stopPropagation();
      this.span?.focus({ preventScroll: true });
    }
  }
}

/** One model's view: its figures, and what it thought likeliest; the token that was taken is marked, also where it is far down. */
function side({ name, tone, view, chosen, choose, lead = false }) {
  const box = make("section", "token-side");
  if (tone) box.dataset.tone = tone;
  const title = make("h3", "token-model");
  title.append(make("span", "lane-dot"), make("span", "", name));
  box.append(title, figures(view, lead));
  const list = make("ol", "alternatives");
  const top = view.top ?? [];
  // A remote server may keep ids back: its tokens are known by their text.
  const isChosen = (id, text) => (typeof id === "number" ? id === chosen.id : text === chosen.text);
  for (const [id, text, logprob] of top) list.append(row({ id, text, logprob, taken: isChosen(id, text), choose }));
  if (!top.some(([id, text]) => isChosen(id, text))) list.append(row({ id: chosen.id, text: chosen.text, logprob: view.logprob, taken: true, far: top.length > 0 }));
  box.append(list);
  return box;
}

function figures(view, lead) {
  const list = [];
  if (typeof view.rank === "number") list.push(["rank", view.rank.toLocaleString("en")]);
  if (typeof view.logprob === "number") list.push(["log-prob", view.logprob.toFixed(3).replace("-", "−")]);
  if (typeof view.entropy === "number") list.push(["entropy", view.entropy.toFixed(2)]);
  if (!lead && typeof view.kl === "number") list.push(["KL to it", view.kl.toFixed(3)]);
  if (!lead && typeof view.reverse_kl === "number") list.push(["KL from it", view.reverse_kl.toFixed(3)]);
  const box = make("dl", "token-figures num");
  for (const [name, value] of list) {
    const pair = make("div");
    pair.append(make("dt", "", name), make("dd", "", value));
    box.append(pair);
  }
  return box;
}

function row({ id, text, logprob, taken, choose, far = false }) {
  const item = make("li", far ? "far" : "");
  const act = choose && !taken && typeof id === "number";
  const line = make(act ? "button" : "span", taken ? "alternative taken" : "alternative");
  const bar = make("span", "share-bar");
  const fill = make("span", "share-fill");
  fill.style.setProperty("width", `${(Math.exp(Math.min(0, logprob)) * 100).toFixed(1)}%`);
  bar.append(fill);
  line.append(make("span", "alternative-text", inLine(text)), bar, make("span", "alternative-share num", share(logprob)));
  if (act) {
    line.type = "button";
    line.setAttribute("aria-label", `Branch here with ${inLine(text)}, ${share(logprob)}`);
    line.addEventListener("click", () => choose(id));
  }
  item.append(line);
  return item;
}

customElements.define("token-card", TokenCard);
