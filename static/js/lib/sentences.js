// What is happening, in words: for notes in lanes, facts, and the status line. No DOM, no state of its own.

import { foretold, meanKl } from "./beliefs.js";
import { finalRate } from "./rates.js";

const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;
export const tokens = (number) => count(number, "token");

/** 1st, 2nd, 3rd, 4th ... */
export function ordinal(number) {
  const ending = Math.floor((number % 100) / 10) === 1 ? "th" : (["th", "st", "nd", "rd"][number % 10] ?? "th");
  return `${number}${ending}`;
}

/** A strength as people read it: ×0.5, and nothing for 1. */
export const strengthText = (strength) => (typeof strength === "number" && strength !== 1 ? `×${Number(strength.toFixed(2))}` : "");

/** A model at a strength, by its title. */
export function variantName({ model, strength }, models) {
  const title = models.find(({ id }) => id === model)?.title || model;
  return [title, strengthText(strength)].filter(Boolean).join(" ");
}

const nats = (value) => (value < 0.0005 ? "0" : value < 0.1 ? value.toFixed(3) : value.toFixed(2));

/** What the models think of each other over these tokens: [{name, text, title}]. */
export function beliefFacts(lane, seen, models) {
  return meanKl(seen, lane.shadows)
    .map((mean, at) => mean !== null && {
      name: "kl", text: `KL ${nats(mean)}`,
      title: `On average ${nats(mean)} nats a token from ${variantName(lane.shadows[at], models)}: KL(this lane || ${variantName(lane.shadows[at], models)})`,
    })
    .filter(Boolean);
}

const PERPLEXITY = "as unsure as among so many equally likely tokens, on average. Lower: more as this model would write it.";
const perplexityText = ({ perplexity }) => (perplexity >= 1000 ? perplexity.toExponential(1) : perplexity.toPrecision(3));

/** How a model liked a text: for the header of an X-ray's lane. `from` is where its last message begins. */
export function xrayFacts(lane, from = -1) {
  const told = foretold(lane.scored);
  const list = [{ name: "tokens", text: `${tokens(lane.scored.length)} read` }];
  const last = from > 0 ? foretold(lane.scored.slice(from)) : null;
  if (last) list.push({ name: "answer", text: `last message: perplexity ${perplexityText(last)}`, title: `Perplexity of the last message alone, ${tokens(last.count)}: ${PERPLEXITY}` });
  if (told) {
    list.push({ name: "perplexity", text: `${last ? "whole text" : "perplexity"} ${perplexityText(told)}`, title: `Perplexity: ${PERPLEXITY}` });
    list.push({ name: "mean", text: `${told.mean.toFixed(2).replace("-", "−")} per token`, title: "Mean log-probability of a token, in nats" });
  }
  list.push({ name: "state", ...(lane.state === "done" ? { text: "read" } : ending(lane)) });
  return list;
}

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
export function note(lane, { model, workers, connection, starting, stopping, xray = false }) {
  if (xray && lane.state === "running") return lane.scored.length ? null : "Reading…";
  if (xray && lane.state === "done") return lane.scored.length ? null : "This model told nothing of the text.";
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
  if (lane.position !== null && lane.position !== undefined) return place(lane.position);
  const able = workers.filter((worker) => worker.models.includes(lane.model));
  if (workers.length === 0) return "No worker is running. The run waits and starts by itself as soon as one is there.";
  if (able.length === 0) return `No running worker serves ${lane.model}. The run waits until one does; or stop it and choose another model.`;
  const busy = able.every((worker) => worker.running >= worker.slots);
  if (busy) return `Queued: all places are taken (${load(able)}). It starts by itself.`;
  const preparing = able.find((worker) => !worker.ready);
  if (preparing) return `Queued: the worker is getting ready${preparing.note ? ` (${preparing.note})` : ""}.`;
  return "Queued.";
}

/** "2nd in the queue", as the worker counts. */
function place(position) {
  return position <= 1 ? "Next in the queue. It starts by itself." : `${ordinal(position)} in the queue. It starts by itself.`;
}

/** How much of the prompts a worker did not compute again, in words; null before it was asked for anything. */
export function cacheWords({ cache_hits: hits = 0, cache_asked: asked = 0 }) {
  if (!asked) return null;
  return `prefix cache: ${Math.round((hits / asked) * 100)} % of ${asked.toLocaleString("en")} prompt tokens`;
}

/** Why tokens show no insight, and whether running again would bring it: {text, again}; null where they do. */
export function insightNote(lane, info) {
  if (lane.insight.some(Boolean) || lane.tokens === 0) return null;
  const why = info?.cannot?.top_logprobs;
  if (why) return { text: `No insight: ${why}`, again: false };
  if ((lane.used?.top_logprobs ?? null) === null) return { text: "This answer was run without insight, so its tokens say nothing.", again: true };
  return { text: "The engine told nothing of these tokens.", again: false };
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
  const size = (lane) => (lane.scored?.length && !lane.tokens ? `${tokens(lane.scored.length)} read` : tokens(lane.tokens));
  const parts = lanes.map((lane, index) => `lane ${index + 1} ${ending(lane).text}, ${size(lane)}`);
  return `Complete: ${parts.join("; ")}.`;
}
