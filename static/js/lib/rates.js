// Speed of an answer: while it runs, from the worker's clock in its token events; at its end, from the figures.

const WINDOW_MS = 2000;

/** Remembers when tokens came. One for each lane. */
export class Rate {
  constructor() {
    this.points = []; // [milliseconds, tokens so far]
  }

  observe(event) {
    if (event.type === "lane.started") this.points = [];
    if (event.type !== "lane.token" || event.ids.length === 0) return;
    this.points.push([event.at, event.index + event.ids.length]);
    while (this.points.length > 2 && this.points[0][0] < event.at - WINDOW_MS) this.points.shift();
  }

  /** Tokens per second over the last two seconds, or null when that cannot be said yet. */
  get perSecond() {
    const [first, last] = [this.points[0], this.points.at(-1)];
    if (!first || last[0] <= first[0]) return null;
    return ((last[1] - first[1]) * 1000) / (last[0] - first[0]);
  }
}

/** Tokens per second of a whole answer: the first token is not counted, for its time is `first_ms`. */
export function finalRate(figures) {
  if (!figures?.decode_ms || figures.completion_tokens < 2) return null;
  return ((figures.completion_tokens - 1) * 1000) / figures.decode_ms;
}
