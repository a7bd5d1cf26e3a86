// How strongly a token is tinted, by what one wants to see of it. Seven steps, 0 the calmest: a page full of sure tokens
// stays plain, and what surprises stands out. Pure.

export const STEPS = 7;

// `of` reads the figure, or gives undefined where an engine did not tell it; `edges` begin steps 1 to 6.
export const TINTS = {
  probability: {
    label: "Probability", hint: "How likely the model found the token that was chosen.",
    of: (seen) => numeric(seen.logprob) && -seen.logprob, edges: [0.9, 0.6, 0.3, 0.1, 0.03, 0.005].map((share) => -Math.log(share)),
    words: ["90 % or more", "60 %", "30 %", "10 %", "3 %", "0.5 %", "less"],
  },
  rank: {
    label: "Rank", hint: "Its place among all tokens, the likeliest first.",
    of: (seen) => numeric(seen.rank), edges: [2, 3, 6, 11, 51, 501], words: ["1st", "2nd", "3rd", "6th", "11th", "51st", "501st or later"],
  },
  entropy: {
    label: "Entropy", hint: "How open the choice was, in nats: 0 where only one token could come.",
    of: (seen) => numeric(seen.entropy), edges: [0.1, 0.5, 1, 2, 3, 4.5], words: ["below 0.1", "0.1", "0.5", "1", "2", "3", "4.5 or more"],
  },
  kl: {
    label: "Disagreement", hint: "How far the other models' beliefs are from this one's: the largest KL, in nats.",
    of: (seen) => klOf(seen), edges: [0.02, 0.1, 0.3, 1, 2.5, 6], words: ["below 0.02", "0.02", "0.1", "0.3", "1", "2.5", "6 or more"],
  },
};

export const numeric = (value) => (typeof value === "number" && Number.isFinite(value) ? value : undefined);

/** The largest KL(lane || shadow) of a token; undefined without shadows. */
export function klOf(seen) {
  let largest;
  for (const { kl } of seen.shades ?? []) if (numeric(kl) !== undefined && !(kl <= largest)) largest = kl;
  return largest;
}

/** 0 to 6, or null where nothing is known. */
export function levelOf(tint, seen) {
  const figure = seen ? TINTS[tint].of(seen) : undefined;
  if (typeof figure !== "number") return null;
  const level = TINTS[tint].edges.findIndex((edge) => figure < edge);
  return level < 0 ? STEPS - 1 : level;
}

/** The tints that these tokens have figures for; engines behind other servers tell less. */
export function tintsFor(tokens) {
  return Object.keys(TINTS).filter((tint) => tokens.some((seen) => seen && typeof TINTS[tint].of(seen) === "number"));
}

/** A share in words: 100 % only for what is really certain, and small ones without a row of zeros. */
export function share(logprob) {
  if (typeof logprob !== "number" || !Number.isFinite(logprob)) return "unknown";
  const value = Math.exp(Math.min(0, logprob));
  if (value >= 0.9995) return value === 1 ? "100 %" : "> 99.9 %";
  if (value >= 0.1) return `${(value * 100).toFixed(0)} %`;
  if (value >= 0.001) return `${(value * 100).toFixed(1)} %`;
  return value >= 0.00001 ? `${(value * 100).toFixed(3)} %` : "< 0.001 %";
}

/** Width of a bar in tenths, 0 to 10: what is there at all shows. */
export const tenths = (logprob) => Math.min(10, Math.max(1, Math.round(Math.exp(Math.min(0, logprob)) * 10)));
