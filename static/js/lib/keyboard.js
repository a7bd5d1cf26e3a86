// Which command a key press means. Pure, so that the table in the shortcuts dialog can be tested against it.

/** The command for a keydown event, or null. `typing`: the focus is in a field that takes text. */
export function commandOf({ code, key, ctrlKey, metaKey, altKey, shiftKey, isComposing }, typing) {
  if (isComposing || altKey) return null;
  if (key === "Escape") return "stop";
  if (ctrlKey || metaKey) {
    if (code === "Enter" || code === "NumpadEnter") return "run";
    if (shiftKey) return null;
    return { KeyS: "save", KeyK: "search", KeyB: "library", Slash: "shortcuts" }[code] ?? null;
  }
  if (typing) return null;
  if (key === "?") return "shortcuts";
  if (shiftKey) return code === "KeyN" ? "previous" : null;
  if (key === "/") return "prompt";
  if (code === "KeyD") return "fork";
  if (code === "KeyT") return "tokens";
  if (code === "KeyN") return "next";
  const digit = /^Digit([1-8])$/.exec(code);
  return digit ? `lane:${digit[1]}` : null;
}

export function isTyping(element) {
  if (!element) return false;
  if (element.isContentEditable || element.tagName === "TEXTAREA" || element.tagName === "SELECT") return true;
  return element.tagName === "INPUT" && !["checkbox", "radio", "range", "button"].includes(element.type);
}

/** Where there is a Command key, call it so. */
export function nameModifiers(root, platform) {
  if (!/^(Mac|iPhone|iPad)/.test(platform)) return;
  for (const key of root.querySelectorAll("[data-mod]")) key.textContent = "⌘";
  for (const key of root.querySelectorAll("[data-mod-enter]")) key.textContent = "⌘ ↵";
}
