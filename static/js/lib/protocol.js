// The frames of `/live`, as playground/live/frames.py writes them down. Knows no DOM and no socket.

export const PROTOCOL = 1;
export const MAX_FRAME = 1024 * 1024; // bytes
const encoder = new TextEncoder();

/** 32 hex digits that make sending a command twice harmless. */
export function newClientId() {
  return crypto.randomUUID().replaceAll("-", "");
}

export const startRun = (clientId, spec) => ({ type: "run.start", client_id: clientId, spec });
export const followRun = (run, after) => ({ type: "run.follow", run, after });
export const unfollowRun = (run) => ({ type: "run.unfollow", run });
export const stopRun = (run) => ({ type: "run.stop", run });
export const stopLane = (run, lane) => ({ type: "lane.stop", run, lane });
export const ack = (frame) => ({ type: "ack", frame });
export const ping = (t) => ({ type: "ping", t });

/** Answer once more in place of `lane`, or as a new column where `lane` is null. */
export function rerunLane(run, lane, clientId, spec, params) {
  return { type: "lane.rerun", run, lane, client_id: clientId, spec, params };
}

/** What a command and the answer to it have in common: by it the answer settles the command. */
export function keyOf(frame) {
  if (frame.client_id) return frame.client_id;
  if (frame.type === "stop.accepted") return stopKey(frame.run, frame.lane);
  if (frame.type === "run.stop" || frame.type === "lane.stop") return stopKey(frame.run, frame.lane);
  return `${frame.type}:${frame.run ?? ""}`;
}

function stopKey(run, lane) {
  return `stop:${run}:${lane ?? "all"}`;
}

/** The frame as text, or null if it is more than the server takes. */
export function encode(frame) {
  const text = JSON.stringify(frame);
  return text.length > MAX_FRAME || encoder.encode(text).length > MAX_FRAME ? null : text;
}

/** The frame in `text`, or null for what is none: a page must not die of one bad message. */
export function decode(text) {
  try {
    const frame = JSON.parse(text);
    return frame && typeof frame.type === "string" ? frame : null;
  } catch {
    return null;
  }
}
