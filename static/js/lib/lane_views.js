// From draft, run and models to what each column shows. Pure.

import { impossible, sentOverrides } from "./params.js";
import { hasEnded, takesOf } from "./run_store.js";
import { note, variantName } from "./sentences.js";
import { tonesOf } from "./tones.js";

/**
 * `screen` is what only this page knows: {chosen: Map key -> take, full: key, settings: Set of keys, tokens: are answers
 * shown token by token, tint: how}.
 * `live` is the session and the connection: {state, running, starting, stopping, rateOf, connection, workers}.
 */
export function laneViews({ catalog, draft, models, screen, live, limits, readOnly = false }) {
  const tones = tonesOf(draft.lanes, models);
  const takes = draft.lanes.map((lane) => takesOfLane(draft, live.state, lane.key));
  const variants = draft.lanes.map(({ model, strength }, at) => ({ model, strength, tone: tones[at] }));
  const prompt = draft.xray ? promptText(live.state.spec?.prompt) : "";
  const lastMessage = draft.xray && live.state.spec?.prompt.mode === "chat" ? live.state.spec.prompt.messages.at(-1).content : "";
  const shown = draft.lanes.map((lane, i) => takes[i][takeOf(screen, lane.key, takes[i])] ?? null);
  return draft.lanes.map((lane, index) => {
    const info = models.find((model) => model.id === lane.model) ?? null;
    const answer = shown[index];
    const named = { model: lane.model, strength: info && !info.base ? null : lane.strength };
    return {
      key: lane.key, index, count: draft.lanes.length, model: lane.model, info, models,
      title: info?.title || lane.model,
      name: variantName(named, models),
      strength: lane.strength ?? null,
      prefix: lane.prefix?.length ?? 0,
      xray: draft.xray ?? false,
      prompt, lastMessage, variants, limits, readOnly,
      tokens: draft.xray || screen.tokens,
      tint: screen.tint,
      impossible: draft.xray ? [] : impossible(catalog, draft.params, lane.overrides, info),
      tone: tones[index],
      lane: answer,
      takes: takes[index].length,
      take: takeOf(screen, lane.key, takes[index]),
      running: takes[index].some((take) => !hasEnded(take)),
      rate: answer && live.rateOf(answer.lane),
      note: answer && note(answer, { ...live, model: models.find((model) => model.id === answer.model), xray: draft.xray }),
      stale: answer && stale(answer, lane, info),
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

/** What to say of an answer that is not by the model, or not at the strength, that its column now names. */
function stale(answer, lane, info) {
  const now = info?.title || lane.model;
  if (answer.model !== lane.model) return `This answer is from ${answer.model}. Run the lane again for ${now}.`;
  const [was, wanted] = [answer.strength ?? 1, lane.strength ?? 1];
  if (!info?.base || was === wanted) return null;
  return `This answer is at strength ${was}. Run the lane again for ${wanted}.`;
}

/** A chat's text depends on the model's template; the text of a completion is what the model reads. */
const promptText = (prompt) => (prompt?.mode === "completion" ? prompt.text : "");
