// Where two answers first differ.

/** Index of the first differing UTF-16 unit, or -1 while one text is the beginning of the other. Never inside a pair. */
export function forkOf(reference, text) {
  const length = Math.min(reference.length, text.length);
  let low = 0;
  while (low < length && reference.charCodeAt(low) === text.charCodeAt(low)) low++;
  if (low === length) return -1;
  const before = text.charCodeAt(low - 1);
  return low > 0 && before >= 0xd800 && before < 0xdc00 ? low - 1 : low;
}

/** End of the word that begins at, or holds, `start`. */
export function wordEnd(text, start) {
  const rest = text.slice(start, start + 40);
  return start + Math.max(1, rest.search(/(?<=\S)\s|$/u));
}
