// Puts a popover beside the button that opens it. (CSS anchors are not in every browser yet.)

const GAP = 6;

export function placePopovers(root) {
  root.addEventListener("beforetoggle", ({ target, newState }) => newState === "open" && place(target), true);
  root.addEventListener("toggle", ({ target, newState }) => (newState === "open" ? place(target) : forget(target)), true);
  // A menu has done its work once something in it was chosen.
  root.addEventListener("click", ({ target }) => {
    const menu = target.closest("[popover].menu");
    if (menu && target.closest("button:not([type=submit]), a")) menu.hidePopover();
  });
  root.addEventListener("submit", ({ target }) => target.closest("[popover].menu")?.hidePopover());
}

/** htmx copies attributes from old content to new, and a copied style attribute is what the page's CSP forbids. */
function forget(popover) {
  if (popover.hasAttribute("popover")) popover.removeAttribute("style");
}

function place(popover) {
  if (!popover.hasAttribute("popover")) return;
  const button = popover.anchor ?? document.querySelector(`[popovertarget="${CSS.escape(popover.id)}"]`);
  if (!button) return;
  const at = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = popover;
  const left = Math.max(GAP, Math.min(at.right - width, innerWidth - width - GAP));
  const below = at.bottom + GAP;
  const top = below + height > innerHeight - GAP ? Math.max(GAP, at.top - height - GAP) : below;
  popover.style.setProperty("left", `${width && at.left + width < innerWidth - GAP ? Math.max(GAP, Math.min(at.left, left + width)) : left}px`);
  popover.style.setProperty("top", `${top}px`);
}
