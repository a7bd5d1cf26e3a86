// What the worker really used for an answer, as it said itself; what differs between the lanes is marked.

import { formatValue, sameValue } from "../lib/params.js";
import { make } from "../lib/dom.js";

const SHORT = ["temperature", "top_p", "max_tokens", "seed"];

class UsedDetails extends HTMLElement {
  /** `others` are the `used` of the other lanes. */
  show(lane, others, catalog) {
    const used = lane?.used ?? null;
    const differs = used ? catalog.map(({ name }) => name).filter((name) => others.some((other) => !sameValue(other[name], used[name]))) : [];
    const key = used ? `${JSON.stringify(used)}${differs}${lane.attempt}${lane.worker}${lane.figures?.cached_tokens}` : "";
    if (key === this.key) return;
    this.key = key;
    const wasOpen = this.querySelector("details")?.open ?? false;
    this.replaceChildren();
    if (!used) return;
    const details = make("details", "used");
    details.open = wasOpen;
    const summary = make("summary", "num");
    summary.append(make("span", "used-word", "used"));
    const short = used.max_tokens === 0 ? ["prompt_logprobs"] : SHORT; // an X-ray draws nothing
    for (const name of [...short, ...differs.filter((name) => !short.includes(name))]) {
      summary.append(" ", value(name, used[name], differs.includes(name)));
    }
    if (typeof lane.used_strength === "number" && lane.used_strength !== 1) summary.append(" ", value("strength", lane.used_strength));
    if (lane.precision) summary.append(" ", make("span", "used-value", lane.precision));
    details.append(summary, table(lane, used, differs, catalog));
    this.append(details);
  }
}

function value(name, given, differs = false) {
  const span = make(differs ? "mark" : "span", "used-value", `${name} ${show(name, given)}`);
  if (differs) span.title = "Differs between the lanes";
  return span;
}

function show(name, given, neutral = "") {
  if (given === undefined) return neutral; // a worker leaves out what stands there
  if (given === null) return "the server's own"; // which does not tell
  return name === "top_k" && given === 0 ? "no limit" : formatValue(given);
}

function table(lane, used, differs, catalog) {
  const list = make("dl", "facts-table");
  const row = (name, text, marked = false) => {
    const line = make("div");
    line.append(make("dt", "", name), make("dd", "num", text));
    if (marked) line.className = "differs";
    list.append(line);
  };
  for (const { name, label, neutral } of catalog) row(label, show(name, used[name], neutral), differs.includes(name));
  row("Model", lane.model);
  if (typeof lane.used_strength === "number") row("Strength", String(lane.used_strength));
  if (lane.precision) row("Precision", lane.precision);
  if (lane.prefix.length) row("Begins with", `${lane.prefix.length} given tokens`);
  if (lane.shadows.length) row("Read by", lane.shadows.map(({ model, strength }) => [model, strength === undefined ? "" : `×${strength}`].join(" ").trim()).join(", "));
  if (lane.base && lane.base !== lane.model) row("Base", lane.base);
  if (lane.sha256) row(lane.base && lane.base !== lane.model ? "Adapter SHA-256" : "Weights SHA-256", lane.sha256);
  const cached = lane.figures?.cached_tokens;
  row("Prompt", `${lane.prompt_tokens} tokens${cached ? `, ${cached} of them from the prefix cache` : ""}`);
  row("Worker", `${lane.worker} (${lane.device})`);
  if (lane.attempt > 1) row("Attempt", `${lane.attempt}: another worker went on after the first was gone`);
  return list;
}

customElements.define("used-details", UsedDetails);
