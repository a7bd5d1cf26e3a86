// The text of tokens: as it can be shown without harm, and where it lies in the answer. Pure.

// Controls, marks of direction, and what has no width: shown by name, or they would move the text around them.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/gu;

const JOINERS = /^[\u200c\u200d\ufe00-\ufe0f]+$/u; // between characters they do their work, alone they are nothing

/** A token's text with everything in it visible; line ends are kept and get their mark from the style sheet. */
export function visible(text) {
  if (text === "") return "∅";
  return text.replace(JOINERS.test(text) ? /./gu : HIDDEN, (mark) => {
    const code = mark.codePointAt(0);
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    if (code === 0x7f) return "␡";
    return `‹${code.toString(16).toUpperCase().padStart(4, "0")}›`;
  });
}

/** The same in one line, for names and lists: with marks for spaces, tabs and line ends. */
export function inLine(text) {
  return visible(text).replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "␣");
}

/** Finds one token after another in the text that they wrote. */
export class Anchor {
  at = 0; // where the last one that was found ended

  /**
   * Where a token with this text lies: {start, end}, or null while that cannot be said: it is part of a character, or
   * special and not in the text. Behind such tokens it may lie a few characters on, behind a hole (`far`) anywhere.
   */
  find(text, piece, far = false) {
    const whole = piece.replaceAll("\ufffd", "");
    if (whole === "") return null;
    const start = far ? text.indexOf(whole, this.at) : nearby(text, whole, this.at);
    if (start < 0) return null;
    this.at = start + whole.length;
    return { start, end: this.at };
  }
}

function nearby(text, piece, at) {
  for (let i = at; i <= at + 12; i++) if (text.startsWith(piece, i)) return i;
  return -1;
}

/** The token in which the character at `place` lies, or -1. */
export function tokenAt(text, tokens, place) {
  const anchor = new Anchor();
  let unknown = false;
  let first = -1; // of the tokens since the last that was found
  for (const [index, seen] of tokens.entries()) {
    const lies = seen && anchor.find(text, seen.text, unknown);
    if (!lies) {
      unknown ||= !seen;
      if (first < 0) first = index;
    } else if (place < lies.end) {
      return place < lies.start && first >= 0 ? first : index;
    } else {
      [unknown, first] = [false, -1];
    }
  }
  return first;
}

/** What a prompt says before its first scored token: a model has nothing to judge that by. */
export function unscored(text, scored) {
  const rest = scored.map((seen) => seen?.text ?? "").join("");
  if (rest && text.endsWith(rest)) return text.slice(0, text.length - rest.length);
  return "";
}
