// What is happening, in words: for notes in lanes, facts, and the status line. No DOM, no state of its own.

import { finalRate } from "./rates.js";

const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;
export const tokens = (number) => count(number, "token");

/** Facts of a lane for its header: [{name, text, title?, warn?}]. `rate` is the live one. */
export function facts(lane, rate) {
  const list = [{ name: "tokens", text: tokens(lane.tokens) }];
  const first = lane.figures?.first_ms;
  if (typeof first === "number") list.push({ name: "first", text: `${Math.round(first)} ms to first` });
  const speed = lane.figures ? finalRate(lane.figures) : rate;
  if (speed) list.push({ name: "speed", text: `${speed < 10 ? speed.toFixed(1) : Math.round(speed)} tok/s` });
  list.push({ name: "state", ...ending(lane) });
  return list;
}

/** How a lane stands, in one or two words. A cut answer never looks like a finished one. */
export function ending(lane) {
  switch (lane.state) {
    case "done":
      return lane.finish === "length"
        ? { text: "cut: max tokens", warn: true, title: "Finish reason: length. Raise Max tokens to let it go on." }
        : { text: "done: stop", title: "Finish reason: stop. The model ended its answer, or met a stop sequence." };
    case "stopped":
      return { text: "stopped", warn: true, title: "Somebody pressed Stop. The text up to here is kept." };
    case "failed":
      return { text: "failed", warn: true };
    default:
      return { text: lane.state };
  }
}

/** The note in the body of a lane that has no text to show yet, or null. */
export function note(lane, { model, workers, connection, starting, stopping }) {
  if (lane.state === "running" || lane.state === "done") {
    return lane.state === "done" && !lane.text ? "The answer is empty: the model ended at once." : null;
  }
  if (lane.state === "stopped") return lane.text ? null : "Stopped before the first token.";
  if (lane.state === "loading") return `Loading ${model?.title || lane.model} into memory. This takes some seconds the first time.`;
  if (lane.state !== "queued") return null;
  if (connection !== "open") {
    return starting ? "Waiting for the connection; the run starts as soon as it is back." : "Connection lost. The run goes on at the server.";
  }
  if (stopping) return "Stopping…";
  const able = workers.filter((worker) => worker.models.includes(lane.model));
  if (workers.length === 0) return "No worker is running. The run waits and starts by itself as soon as one is there.";
  if (able.length === 0) return `No running worker serves ${lane.model}. The run waits until one does; or stop it and choose another model.`;
  const busy = able.every((worker) => worker.running >= worker.slots);
  if (busy) return `Queued: all places are taken (${load(able)}). It starts by itself.`;
  const preparing = able.find((worker) => !worker.ready);
  if (preparing) return `Queued: the worker is getting ready${preparing.note ? ` (${preparing.note})` : ""}.`;
  return "Queued.";
}

function load(workers) {
  const running = workers.reduce((sum, worker) => sum + worker.running, 0);
  const waiting = workers.reduce((sum, worker) => sum + worker.waiting, 0);
  return `${count(running, "answer")} running, ${waiting} waiting`;
}

/** The worker pill: {text, tone}. */
export function workerState(workers, connection, reason) {
  if (connection === "closed") return { text: reason ? "disconnected" : "offline", tone: "bad" };
  if (connection === "waiting") return { text: "reconnecting", tone: "warn" };
  if (connection === "connecting") return { text: "connecting", tone: "warn" };
  if (workers.length === 0) return { text: "no worker", tone: "bad" };
  if (!workers.some((worker) => worker.ready)) return { text: "worker starting", tone: "warn" };
  return { text: workers.length === 1 ? "worker ready" : `${workers.length} workers ready`, tone: "good" };
}

/** The polite status line: said once at the start and once at the end of an answer, never per token. */
export function summary(lanes) {
  if (lanes.length === 0) return "";
  const open = lanes.filter((lane) => ["queued", "loading", "running"].includes(lane.state));
  if (open.length === lanes.length && open.every((lane) => lane.state === "queued")) return `Run queued, ${count(lanes.length, "lane")}.`;
  if (open.length) {
    const ended = lanes.length - open.length;
    return ended ? `Generating. ${ended} of ${count(lanes.length, "lane")} complete.` : "Generating.";
  }
  const parts = lanes.map((lane, index) => `lane ${index + 1} ${ending(lane).text}, ${tokens(lane.tokens)}`);
  return `Complete: ${parts.join("; ")}.`;
}
