// Which colour a lane has: blue for the first base, orange for the first tuned model, then two calmer ones in turn.

const FURTHER = ["third", "fourth"];

/** One tone for each lane. `models` are those served now; a model that is not among them is judged by its name. */
export function tonesOf(lanes, models) {
  const tuned = (id) => models.find((model) => model.id === id)?.base ?? (id.startsWith("ft:") ? id : null);
  const taken = new Set();
  let further = 0;
  return lanes.map((lane) => {
    const tone = tuned(lane.model) ? "tuned" : "base";
    if (taken.has(tone)) return FURTHER[further++ % FURTHER.length];
    taken.add(tone);
    return tone;
  });
}
