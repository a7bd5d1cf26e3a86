// The columns side by side, tabs where they do not all fit, and the marks where answers begin to differ.

import { LanePane } from "./lane_pane.js";
import { make, part, setLabel, setText } from "../lib/dom.js";
import { forkOf, wordEnd } from "../lib/fork.js";

class LaneStrip extends HTMLElement {
  connectedCallback() {
    this.columns = part(this, "columns");
    this.tabs = part(this, "tabs");
    this.template = part(this, "lane");
    this.panes = new Map(); // lane key -> LanePane
    this.forks = new Map(); // lane key -> {reference, text, at}: texts only grow, so a fork once found stays
    this.seen = new Map(); // column -> how much of it is in view
    this.observer = new IntersectionObserver((entries) => this.#inView(entries), { root: this.columns, threshold: [0, 0.25, 0.5, 0.75, 1] });
    this.sizes = new ResizeObserver(() => this.#fit());
    this.sizes.observe(this.columns);
  }

  disconnectedCallback() {
    this.observer.disconnect();
    this.sizes.disconnect();
  }

  prepare({ catalog, limits }) {
    this.settings = { catalog, limits };
  }

  /** `views` are the lanes from left to right; `marks` tells whether first differences are marked. */
  show(views, marks) {
    this.#dropGone(views);
    let before = null;
    const forks = marks && !views[0]?.xray ? this.#findForks(views) : new Map();
    for (const view of views) {
      const pane = this.panes.get(view.key) ?? this.#add(view.key);
      const place = before ? before.nextSibling : this.columns.firstChild;
      if (pane.root !== place) this.columns.insertBefore(pane.root, place);
      pane.show({ ...view, fork: this.#words(forks.get(view.key), view), forkAt: forks.get(view.key) });
      before = pane.root;
    }
    this.#mark(views, forks);
    this.#showTabs(views);
    if (this.columns.childElementCount !== this.fitted) this.#fit();
  }

  /** Bring a lane into view and the keyboard to its text. */
  go(index, focus = true) {
    const root = this.columns.children[index];
    if (!root) return;
    const smooth = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
    this.columns.scrollTo({ left: root.offsetLeft - this.columns.offsetLeft, behavior: smooth });
    if (focus) part(root, "body").focus({ preventScroll: true });
  }

  /** The next token worth a look, in the lane that has the keyboard, else in the first that has one. */
  goRemarkable(step) {
    const panes = [...this.columns.children].map((root) => [...this.panes.values()].find((pane) => pane.root === root));
    const held = panes.filter((pane) => pane.root.contains(document.activeElement) || pane === this.walked);
    for (const pane of [...held, ...panes]) {
      if (!pane.tokens.goRemarkable(step)) continue;
      this.walked = pane;
      return true;
    }
    return false;
  }

  #add(key) {
    const pane = new LanePane(this.template, { ...this.settings, key });
    this.panes.set(key, pane);
    this.observer.observe(pane.root);
    return pane;
  }

  #dropGone(views) {
    const keys = new Set(views.map((view) => view.key));
    for (const [key, pane] of this.panes) {
      if (keys.has(key)) continue;
      this.observer.unobserve(pane.root);
      this.seen.delete(pane.root);
      pane.root.remove();
      this.panes.delete(key);
      this.forks.delete(key);
    }
  }

  #findForks(views) {
    const reference = views[0]?.lane?.text ?? "";
    const forks = new Map();
    for (const { key, lane } of views.slice(1)) {
      const text = lane?.text ?? "";
      const known = this.forks.get(key);
      const grown = known && known.at >= 0 && reference.startsWith(known.reference) && text.startsWith(known.text);
      const at = grown ? known.at : forkOf(reference, text);
      this.forks.set(key, { at, reference: reference.slice(0, at + 1), text: text.slice(0, at + 1) });
      if (at >= 0) forks.set(key, at);
    }
    return forks;
  }

  #words(at, { lane, index }) {
    if (index === 0 || !lane?.text || at === undefined) return null;
    return at === 0 ? "differs at once" : `differs after ${at} ${at === 1 ? "character" : "characters"}`;
  }

  /** Marks lie over the text (CSS highlights): the text itself stays as it is. */
  #mark(views, forks) {
    if (!CSS.highlights) return;
    for (const tone of ["base", "tuned", "third", "fourth"]) {
      const ranges = views
        .filter((view) => view.tone === tone && forks.has(view.key))
        .map(({ key, lane }) => this.panes.get(key).answer.range(forks.get(key), Math.min(lane.text.length, wordEnd(lane.text, forks.get(key)))))
        .filter(Boolean);
      if (ranges.length) CSS.highlights.set(`fork-${tone}`, new Highlight(...ranges));
      else CSS.highlights.delete(`fork-${tone}`);
    }
  }

  #showTabs(views) {
    while (this.tabs.childElementCount > views.length) this.tabs.lastElementChild.remove();
    while (this.tabs.childElementCount < views.length) {
      const tab = make("button", "lane-tab");
      tab.type = "button";
      tab.append(make("span", "lane-dot"), make("span", "lane-tab-name"));
      tab.addEventListener("click", () => this.go([...this.tabs.children].indexOf(tab), false));
      this.tabs.append(tab);
    }
    views.forEach(({ tone, name, index, lane }, at) => {
      const tab = this.tabs.children[at];
      tab.dataset.tone = tone;
      tab.dataset.state = lane?.state ?? "idle";
      setText(tab.lastElementChild, name);
      setLabel(tab, `Show lane ${index + 1}: ${name}`);
    });
  }

  #inView(entries) {
    for (const { target, intersectionRatio } of entries) this.seen.set(target, intersectionRatio);
    [...this.columns.children].forEach((root, index) => {
      this.tabs.children[index]?.toggleAttribute("data-in-view", (this.seen.get(root) ?? 0) > 0.5);
    });
  }

  #fit() {
    this.fitted = this.columns.childElementCount;
    this.toggleAttribute("data-overflow", this.columns.scrollWidth > this.columns.clientWidth + 2);
  }
}

customElements.define("lane-strip", LaneStrip);
