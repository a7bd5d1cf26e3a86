// What models think of the same tokens: who shadows whom, how far apart they are and where, how well a text is foretold.
// Pure.

import { klOf, numeric } from "./tints.js";

export const MAX_SHADOWS = 3;
const FEW = 5; // tokens of a text that are always worth a look
const SHARE = 0.1; // of a longer one
const strengthOf = (variant) => variant.strength ?? 1;
const familyOf = (id, models) => models.find((model) => model.id === id)?.base ?? id;
const same = (a, b) => a.model === b.model && (strengthOf(a) === strengthOf(b));

/** A model at a strength as the wire has it: 1 is what is meant where nothing is said. */
export const variantOf = ({ model, strength }) => ((strength ?? 1) === 1 ? { model } : { model, strength });

/** For each lane the other lanes of its base, each once; none where its engine keeps no shadows. */
export function shadowsFor(lanes, models) {
  return lanes.map((lane) => {
    if (models.find((model) => model.id === lane.model)?.cannot?.shadows) return [];
    const others = [];
    for (const other of lanes) {
      const related = familyOf(other.model, models) === familyOf(lane.model, models);
      if (related && !same(other, lane) && !others.some((known) => same(known, other))) others.push(variantOf(other));
    }
    return others.slice(0, MAX_SHADOWS);
  });
}

/** The mean of KL(lane || shadow) for each shadow, over the tokens that tell it: [number | null]. */
export function meanKl(tokens, shadows) {
  return shadows.map((_, at) => {
    const values = tokens.map((seen) => seen?.shades?.[at]?.kl).filter((kl) => typeof kl === "number");
    return values.length ? values.reduce((sum, kl) => sum + kl, 0) / values.length : null;
  });
}

/** Index of the token on which the models are furthest apart, or -1. */
export function widest(tokens) {
  let found = -1;
  let largest = 0;
  tokens.forEach((seen, index) => {
    const kl = seen ? klOf(seen) : undefined;
    if (kl > largest) [found, largest] = [index, kl];
  });
  return found;
}

/**
 * The next token worth a look after `from` (before it with `step` -1), going round at the end; -1 where there is none.
 * With shadows that is one of those on which the models are furthest apart, without one of the least expected.
 */
export function nextRemarkable(tokens, from, step = 1) {
  const shaded = tokens.some((seen) => seen?.shades?.length);
  const figure = (seen) => (seen ? (shaded ? klOf(seen) : numeric(seen.logprob) && -seen.logprob) : undefined) ?? 0;
  const least = shaded ? 0 : -Math.log(0.1);
  const sorted = tokens.map(figure).filter((value) => value > least).sort((a, b) => b - a);
  const most = Math.max(FEW, Math.ceil(tokens.length * SHARE));
  const edge = sorted[Math.min(most, sorted.length) - 1];
  for (let i = 1; i <= tokens.length && edge !== undefined; i++) {
    const at = (((from + step * i) % tokens.length) + tokens.length) % tokens.length;
    if (figure(tokens[at]) >= edge) return at;
  }
  return -1;
}

/** Where the tokens of `text` begin that stand at the end of these; -1 where they do not end with it. */
export function tailOf(tokens, text) {
  let rest = text;
  for (let at = tokens.length - 1; at >= 0 && text; at--) {
    const piece = tokens[at]?.text;
    if (piece === undefined || piece.includes("\ufffd")) return -1;
    if (piece.length >= rest.length) return piece.endsWith(rest) ? at : -1;
    if (!rest.endsWith(piece)) return -1;
    rest = rest.slice(0, rest.length - piece.length);
  }
  return -1;
}

/** How well a model foretold a text: {count, mean (log-probability), perplexity}; null where it judged no token. */
export function foretold(tokens) {
  const known = tokens.filter((seen) => typeof seen?.logprob === "number");
  if (known.length === 0) return null;
  const mean = known.reduce((sum, seen) => sum + seen.logprob, 0) / known.length;
  return { count: known.length, mean, perplexity: Math.exp(-mean) };
}

/** Indices of the tokens that were least expected, the hardest first. */
export function hardest(tokens, from = 0, most = 8) {
  return tokens
    .map((seen, index) => [index, seen?.logprob])
    .filter(([index, logprob]) => index >= from && typeof logprob === "number" && logprob < Math.log(0.5))
    .sort((a, b) => a[1] - b[1])
    .slice(0, most)
    .map(([index]) => index);
}
