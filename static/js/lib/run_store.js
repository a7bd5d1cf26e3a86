// From the events of a run to its state: the same reducer as playground/runs/replay.py, held to the same sample.
// Pure: a state is never changed, so that whoever compares two states sees what is new by identity.

const ENDED = new Set(["stopped", "failed", "done"]);
const WAITING = new Set(["queued", "loading"]);
const MAX_INSIGHT = 8192; // tokens of an answer, or of a prompt, whose insight is kept

export const hasEnded = (lane) => ENDED.has(lane.state);

export function emptyRun(run = null, spec = null) {
  return { run, spec, lanes: spec ? spec.lanes.map((lane, index) => newLane(index, lane, null)) : [], last: 0 };
}

/** The state after one numbered event. One that was applied before changes nothing. */
export function reduce(state, event) {
  if (event.n <= state.last) return state;
  const next = { ...state, last: event.n };
  if (event.type === "run.created") {
    next.run = event.run;
    next.spec = event.spec;
    next.lanes = event.spec.lanes.map((lane, index) => newLane(index, lane, null));
    return next;
  }
  if (event.type === "lane.added") {
    if (event.lane === state.lanes.length) next.lanes = [...state.lanes, newLane(event.lane, event.spec, event.replaces)];
    return next;
  }
  const lane = state.lanes[event.lane];
  if (!lane || hasEnded(lane)) return next;
  const changed = reduceLane(lane, event);
  if (changed !== lane) next.lanes = state.lanes.with(event.lane, changed);
  return next;
}

export const reduceAll = (state, events) => events.reduce(reduce, state);

/** True while a lane of the run has not ended. */
export const isRunning = (state) => state.lanes.some((lane) => !hasEnded(lane));

/** The takes of one column, oldest first: the lane itself, and those that replaced it one after another. */
export function takesOf(state, root) {
  const takes = state.lanes[root] ? [state.lanes[root]] : [];
  const members = new Set([root]);
  for (const lane of state.lanes) {
    if (lane.replaces !== null && members.has(lane.replaces)) {
      members.add(lane.lane);
      takes.push(lane);
    }
  }
  return takes;
}

/** Lanes that begin a column: those that replace no other. */
export const rootsOf = (state) => state.lanes.filter((lane) => lane.replaces === null).map((lane) => lane.lane);

function reduceLane(lane, event) {
  switch (event.type) {
    case "lane.queued":
      // What has started never waits again on the page, whoever claims it.
      return WAITING.has(lane.state) ? { ...lane, state: "queued", position: event.position } : lane;
    case "lane.loading":
      return { ...lane, state: "loading", position: null };
    case "lane.started": {
      const { attempt, worker, base, sha256, device, used, prompt_tokens, precision = "", strength = null } = event;
      const facts = { attempt, worker, base, sha256, device, used, prompt_tokens, precision, used_strength: strength };
      return { ...lane, ...facts, state: "running", position: null };
    }
    case "lane.scored":
      return { ...lane, scored: placed(lane.scored, event.index - 1, event.insight) };
    case "lane.token":
      // Tokens that are here already are never doubled; text without ids counts no further than its index.
      if (event.index < lane.tokens) return lane;
      return {
        ...lane, tokens: event.index + event.ids.length, text: lane.text + event.text,
        insight: placed(lane.insight, event.index + event.ids.length - (event.insight?.length ?? 0), event.insight),
      };
    case "lane.done":
      return { ...lane, state: "done", finish: event.finish, figures: event.figures, position: null };
    case "lane.stopped":
      return { ...lane, state: "stopped", figures: event.figures, position: null };
    case "lane.failed":
      return { ...lane, state: "failed", error: event.error, figures: event.figures, position: null };
    default:
      return lane;
  }
}

/** `known` with `insight` at its place. What is there already stays; what was left out shows as null. */
function placed(known, index, insight = []) {
  if (insight.length === 0 || index < 0 || index + insight.length <= known.length || index >= MAX_INSIGHT) return known;
  const gap = new Array(Math.max(0, index - known.length)).fill(null);
  return [...known, ...gap, ...insight.slice(Math.max(0, known.length - index))].slice(0, MAX_INSIGHT);
}

function newLane(index, spec, replaces) {
  return {
    lane: index, model: spec.model, overrides: spec.overrides ?? {}, replaces: replaces ?? null,
    strength: spec.strength ?? null, prefix: spec.prefix ?? [], shadows: spec.shadows ?? [], state: "queued",
    position: null, attempt: 0, text: "", tokens: 0, insight: [], scored: [], prompt_tokens: 0, used: null,
    sha256: null, base: null, device: null, worker: null, precision: "", used_strength: null, figures: null,
    finish: null, error: null,
  };
}
