// Three short ways to say what elements say all the time.

/** The element that plays `name` in `root`. */
export const part = (root, name) => root.querySelector(`[data-part="${name}"]`);

/** Tell whoever is above: a bubbling event of this name. */
export const tell = (element, name, detail) => element.dispatchEvent(new CustomEvent(name, { bubbles: true, detail }));

/** A new element with text in it; text from people and models enters the page only like this. */
export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

/** Write only what changed: a text that is set again would lose the selection in it. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Name a control for everybody: screen readers and, as a tip, for the mouse. */
export function setLabel(element, label) {
  if (element.getAttribute("aria-label") === label) return;
  element.setAttribute("aria-label", label);
  element.title = label;
}

/** An icon of the sprite. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}
