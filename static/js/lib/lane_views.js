// From draft, run and models to what each column shows. Pure.

import { sentOverrides } from "./params.js";
import { hasEnded, takesOf } from "./run_store.js";
import { note } from "./sentences.js";
import { tonesOf } from "./tones.js";

/**
 * `screen` is what only this page knows: {chosen: Map key -> take, full: key, settings: Set of keys}.
 * `live` is the session and the connection: {state, running, starting, stopping, rateOf, connection, workers}.
 */
export function laneViews({ catalog, draft, models, screen, live }) {
  const tones = tonesOf(draft.lanes, models);
  const takes = draft.lanes.map((lane) => takesOfLane(draft, live.state, lane.key));
  const shown = draft.lanes.map((lane, i) => takes[i][takeOf(screen, lane.key, takes[i])] ?? null);
  return draft.lanes.map((lane, index) => {
    const info = models.find((model) => model.id === lane.model) ?? null;
    const answer = shown[index];
    return {
      key: lane.key, index, count: draft.lanes.length, model: lane.model, info, models,
      title: info?.title || lane.model,
      tone: tones[index],
      lane: answer,
      takes: takes[index].length,
      take: takeOf(screen, lane.key, takes[index]),
      running: takes[index].some((take) => !hasEnded(take)),
      rate: answer && live.rateOf(answer.lane),
      note: answer && note(answer, { ...live, model: models.find((model) => model.id === answer.model) }),
      stale: answer && answer.model !== lane.model ? `This answer is from ${answer.model}. Run the lane again for ${info?.title || lane.model}.` : null,
      others: shown.filter((other, at) => at !== index && other?.used).map((other) => other.used),
      panel: draft.params,
      overrides: lane.overrides,
      modified: Object.keys(sentOverrides(catalog, draft.params, lane.overrides)).length,
      full: screen.full === lane.key,
      settingsOpen: screen.settings.has(lane.key),
    };
  });
}

export function takesOfLane(draft, state, key) {
  const root = draft.bound?.roots[key];
  return root === undefined ? [] : takesOf(state, root);
}

function takeOf(screen, key, takes) {
  const chosen = screen.chosen.get(key);
  return chosen === undefined ? takes.length - 1 : Math.min(chosen, takes.length - 1);
}
