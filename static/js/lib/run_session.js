// The run that the page shows: its state, its speeds, and the commands that change it. Knows the socket, not the DOM.
// Tells "change" after every step, "refused" with the server's words, and "started" when a run has got its id.

import { newClientId, rerunLane, startRun, stopLane, stopRun } from "./protocol.js";
import { Rate } from "./rates.js";
import { emptyRun, hasEnded, isRunning, reduce } from "./run_store.js";

export class RunSession extends EventTarget {
  constructor(socket) {
    super();
    this.socket = socket;
    this.clear();
    socket.addEventListener("events", ({ detail }) => this.#apply(detail));
    socket.addEventListener("reset", ({ detail }) => this.#reset(detail.run));
    socket.addEventListener("answer", ({ detail }) => this.#answered(detail));
    socket.addEventListener("refused", ({ detail }) => this.#refused(detail));
  }

  clear() {
    if (this.run) this.socket.unfollow(this.run);
    this.run = null;
    this.starting = null; // client id of a start that is not confirmed yet
    this.stopOnStart = false;
    this.stopping = false;
    this.state = emptyRun();
    this.rates = new Map();
    this.adding = new Map(); // client id of a further lane -> what the page calls it
  }

  get running() {
    return this.starting !== null || this.adding.size > 0 || (this.run !== null && isRunning(this.state));
  }

  /** Show an existing run: all of its events come from the beginning. */
  open(run) {
    this.clear();
    this.run = run;
    this.socket.follow(run, () => this.state.last);
  }

  /** Begin a new run. `clientId` is given when a start is repeated after a reload. Null if it is too large. */
  start(spec, clientId = newClientId()) {
    this.clear();
    if (!this.socket.command(startRun(clientId, spec))) return null;
    this.starting = clientId;
    this.state = emptyRun(null, spec);
    this.#changed();
    return clientId;
  }

  stop() {
    if (!this.running) return;
    this.stopping = true;
    if (this.starting) this.stopOnStart = true;
    else if (this.run && isRunning(this.state)) this.socket.command(stopRun(this.run));
    this.#changed();
  }

  stopLane(lane) {
    if (this.run && this.state.lanes[lane] && !hasEnded(this.state.lanes[lane])) {
      this.socket.command(stopLane(this.run, lane));
    }
  }

  /** One more answer: in place of `lane`, or a new column (null). `tag` comes back in "added". */
  add(lane, spec, params, tag) {
    const clientId = newClientId();
    if (!this.run || !this.socket.command(rerunLane(this.run, lane, clientId, spec, params))) return false;
    this.adding.set(clientId, tag);
    this.#changed();
    return true;
  }

  rateOf(lane) {
    return this.rates.get(lane)?.perSecond ?? null;
  }

  #apply({ run, events }) {
    if (run !== this.run) return;
    if (events.length && events[0].n > this.state.last + 1) {
      this.socket.follow(run, () => this.state.last); // a gap: ask again from what is here
      return;
    }
    for (const event of events) {
      if (event.n <= this.state.last) continue;
      if ("lane" in event) this.#observe(event);
      this.state = reduce(this.state, event);
    }
    this.#changed();
  }

  #observe(event) {
    if (!this.rates.has(event.lane)) this.rates.set(event.lane, new Rate());
    this.rates.get(event.lane).observe(event);
  }

  #reset(run) {
    if (run !== this.run) return;
    this.state = emptyRun(run);
    this.rates.clear();
    this.#changed();
  }

  #answered(frame) {
    if (frame.type === "run.accepted" && frame.client_id === this.starting) {
      this.starting = null;
      this.run = frame.run;
      // The server follows a run that it has just started, so this only counts for what comes after a break.
      this.socket.following.set(frame.run, () => this.state.last);
      if (this.stopOnStart) this.socket.command(stopRun(this.run));
      this.stopOnStart = false;
      this.#tell("started", { run: frame.run, clientId: frame.client_id });
    } else if (frame.type === "lane.accepted" && this.adding.has(frame.client_id)) {
      const tag = this.adding.get(frame.client_id);
      this.adding.delete(frame.client_id);
      this.#tell("added", { tag, lane: frame.lane, replaces: frame.replaces });
      this.socket.follow(this.run, () => this.state.last);
    }
    this.#changed();
  }

  #refused(frame) {
    const kept = frame.code === "bus_down" && frame.command;
    if (!kept && frame.command?.client_id === this.starting && this.starting) {
      this.starting = null;
      this.state = emptyRun();
    }
    if (!kept && frame.command) this.adding.delete(frame.command.client_id);
    this.#tell("refused", frame);
    this.#changed();
  }

  #changed() {
    this.#tell("change", this.state);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
