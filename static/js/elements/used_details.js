// What the worker really used for an answer, as it said itself; what differs between the lanes is marked.

import { formatValue, sameValue } from "../lib/params.js";
import { make } from "../lib/dom.js";

const SHORT = ["temperature", "top_p", "max_tokens", "seed"];

class UsedDetails extends HTMLElement {
  /** `others` are the `used` of the other lanes. */
  show(lane, others, catalog) {
    const used = lane?.used ?? null;
    const differs = used ? catalog.map(({ name }) => name).filter((name) => others.some((other) => !sameValue(other[name], used[name]))) : [];
    const key = used ? `${JSON.stringify(used)}${differs}${lane.attempt}${lane.worker}` : "";
    if (key === this.key) return;
    this.key = key;
    const wasOpen = this.querySelector("details")?.open ?? false;
    this.replaceChildren();
    if (!used) return;
    const details = make("details", "used");
    details.open = wasOpen;
    const summary = make("summary", "num");
    summary.append(make("span", "used-word", "used"));
    for (const name of [...SHORT, ...differs.filter((name) => !SHORT.includes(name))]) {
      summary.append(" ", value(name, used[name], differs.includes(name)));
    }
    details.append(summary, table(lane, used, differs, catalog));
    this.append(details);
  }
}

function value(name, given, differs) {
  const span = make(differs ? "mark" : "span", "used-value", `${name} ${show(name, given)}`);
  if (differs) span.title = "Differs between the lanes";
  return span;
}

function show(name, given) {
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
  for (const { name, label } of catalog) row(label, show(name, used[name]), differs.includes(name));
  row("Model", lane.model);
  if (lane.base && lane.base !== lane.model) row("Base", lane.base);
  if (lane.sha256) row(lane.base && lane.base !== lane.model ? "Adapter SHA-256" : "Weights SHA-256", lane.sha256);
  row("Prompt", `${lane.prompt_tokens} tokens`);
  row("Worker", `${lane.worker} (${lane.device})`);
  if (lane.attempt > 1) row("Attempt", `${lane.attempt}: another worker went on after the first was gone`);
  return list;
}

customElements.define("used-details", UsedDetails);
