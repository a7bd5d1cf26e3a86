// From the events of a run to its state: the same reducer as playground/runs/replay.py, held to the same sample.
// Pure: a state is never changed, so that whoever compares two states sees what is new by identity.

const ENDED = new Set(["stopped", "failed", "done"]);

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
    case "lane.loading":
      return { ...lane, state: "loading" };
    case "lane.started": {
      const { attempt, worker, base, sha256, device, used, prompt_tokens } = event;
      return { ...lane, state: "running", attempt, worker, base, sha256, device, used, prompt_tokens };
    }
    case "lane.token":
      // Tokens that are here already are never doubled; text without ids is the tail that was held back.
      if (event.index < lane.tokens) return lane;
      return { ...lane, tokens: event.index + event.ids.length, text: lane.text + event.text };
    case "lane.done":
      return { ...lane, state: "done", finish: event.finish, figures: event.figures };
    case "lane.stopped":
      return { ...lane, state: "stopped", figures: event.figures };
    case "lane.failed":
      return { ...lane, state: "failed", error: event.error, figures: event.figures };
    default:
      return lane;
  }
}

function newLane(index, spec, replaces) {
  return {
    lane: index, model: spec.model, overrides: spec.overrides ?? {}, replaces: replaces ?? null, state: "queued",
    attempt: 0, text: "", tokens: 0, prompt_tokens: 0, used: null, sha256: null, base: null, device: null,
    worker: null, figures: null, finish: null, error: null,
  };
}
