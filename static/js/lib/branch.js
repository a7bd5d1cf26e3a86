// "Branch here": the same answer up to a token, then another token in its place. Pure.

/** Why an answer cannot branch at token `index`, in words; null where it can. */
export function unbranchable(lane, index, info, limits) {
  if (info?.cannot?.prefix) return info.cannot.prefix;
  if (index >= limits.prefix) return `Only the first ${limits.prefix} tokens of an answer can be given.`;
  if (lane.insight.slice(0, index).some((seen) => typeof seen?.id !== "number")) return "The tokens before this one are not known well enough to repeat them.";
  return null;
}

/** The spec of a take that repeats `lane` before token `index`, takes `id` there, and goes on with the same dice. */
export function branchSpec(lane, index, id) {
  const overrides = { ...lane.overrides };
  // The seed that was drawn with is written down; "own" dice would be thrown anew for another lane.
  if (lane.used) Object.assign(overrides, { seed: lane.used.seed }, lane.used.dice === "own" ? { dice: "same" } : {});
  const spec = { model: lane.model, overrides, prefix: [...lane.insight.slice(0, index).map((seen) => seen.id), id] };
  if (lane.strength !== null) spec.strength = lane.strength;
  if (lane.shadows.length) spec.shadows = lane.shadows;
  return spec;
}
