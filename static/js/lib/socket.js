// The one socket of a page: connects, backs off, resumes every run it follows from the last number, beats its heart.
// Commands are kept until they are answered and repeated after a break; all of them are harmless when sent twice.
//
// Tells by events: "state" (this.state: connecting | open | waiting | closed), "models", "events", "reset", "answer",
// "refused". Socket, timers and chance are given, so that a test is their master.

import { ack, decode, encode, followRun, keyOf, ping, PROTOCOL, unfollowRun } from "./protocol.js";

const FIRST_WAIT = 250;
const LONGEST_WAIT = 5000;
const BEAT = 20_000;
const PATIENCE = 8_000; // for an answer to a ping, and for the first frame
const FINAL = new Map([
  [4401, "You are not signed in any more. Sign in again: your draft is kept."],
  [4404, "This link does not open anything any more."],
]);
const TOO_BIG = 1009;

export class LiveSocket extends EventTarget {
  constructor(url, { WebSocket = globalThis.WebSocket, timers = globalThis, random = Math.random } = {}) {
    super();
    Object.assign(this, { url, WebSocket, timers, random });
    this.state = "closed";
    this.reason = "";
    this.failures = 0;
    this.following = new Map(); // run -> function that tells the last number it has
    this.commands = new Map(); // key -> frame, until it is answered
    this.socket = null;
  }

  open() {
    this.#clearTimers();
    this.#set("connecting");
    const socket = new this.WebSocket(this.url);
    this.socket = socket;
    socket.onmessage = ({ data }) => this.socket === socket && this.#hear(data);
    socket.onclose = ({ code }) => this.socket === socket && this.#closed(code);
    socket.onerror = () => {}; // a close always follows
    this.patience = this.timers.setTimeout(() => this.#drop(), PATIENCE);
  }

  close() {
    const socket = this.socket;
    this.socket = null;
    this.#clearTimers();
    socket?.close();
    this.#set("closed");
  }

  /** The tab is seen again or the network is back: do not wait for a timer to find out. */
  wake() {
    if (this.state === "waiting") this.open();
    else if (this.state === "open") this.#beat();
  }

  /** Receive the events of a run after `last()`, now and after every break. */
  follow(run, last) {
    this.following.set(run, last);
    if (this.state === "open") this.#send(followRun(run, last()));
  }

  unfollow(run) {
    if (this.following.delete(run) && this.state === "open") this.#send(unfollowRun(run));
  }

  /** Send a command until it is answered. Returns false if it is too large to be sent at all. */
  command(frame) {
    if (encode(frame) === null) return false;
    this.commands.set(keyOf(frame), frame);
    if (this.state === "open") this.#send(frame);
    return true;
  }

  #hear(data) {
    const frame = decode(data);
    if (!frame) return;
    this.timers.clearTimeout(this.patience);
    this.#restartBeat();
    switch (frame.type) {
      case "hello":
        return this.#welcome(frame);
      case "models":
        return this.#tell("models", frame);
      case "events":
        try {
          return this.#tell("events", frame);
        } finally {
          this.#send(ack(frame.frame)); // also where a listener failed: the stream must not dry up
        }
      case "reset":
        return this.#tell("reset", frame);
      case "run.accepted":
      case "lane.accepted":
      case "stop.accepted":
        return this.#settle(keyOf(frame), "answer", frame);
      case "error":
        return this.#settle(keyOf(frame.ref ?? {}), "refused", frame);
    }
  }

  #welcome(frame) {
    if (frame.protocol !== PROTOCOL) return this.#end("This page is older than the server. Reload it: your draft is kept.");
    this.failures = 0;
    this.#set("open");
    for (const command of this.commands.values()) this.#send(command);
    for (const [run, last] of this.following) this.#send(followRun(run, last()));
  }

  #settle(key, event, frame) {
    const command = this.commands.get(key) ?? null;
    // A bus that is away comes back: the command stays and is sent again with the next connection or wake.
    if (frame.type === "error" && frame.code === "bus_down" && command) this.retry = this.#later(command);
    else this.commands.delete(key);
    this.#tell(event, { ...frame, command });
  }

  #later(command) {
    return this.timers.setTimeout(() => {
      if (this.state === "open" && this.commands.has(keyOf(command))) this.#send(command);
    }, 1000);
  }

  #closed(code) {
    this.socket = null;
    this.#clearTimers();
    if (FINAL.has(code)) return this.#end(FINAL.get(code));
    if (code === TOO_BIG) this.commands.clear();
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.failures++);
    this.timer = this.timers.setTimeout(() => this.open(), wait * (0.5 + this.random() / 2));
    this.#set("waiting");
  }

  #end(reason) {
    this.reason = reason;
    this.close();
  }

  /** Give up a connection that does not answer; its own close event may take minutes. */
  #drop() {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    this.#closed(0);
  }

  #restartBeat() {
    this.timers.clearTimeout(this.beat);
    this.beat = this.timers.setTimeout(() => this.#beat(), BEAT);
  }

  #beat() {
    this.timers.clearTimeout(this.patience);
    this.#send(ping(0));
    this.patience = this.timers.setTimeout(() => this.#drop(), PATIENCE);
  }

  #send(frame) {
    if (this.socket?.readyState === 1) this.socket.send(encode(frame));
  }

  #set(state) {
    if (this.state === state) return;
    this.state = state;
    this.#tell("state", state);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #clearTimers() {
    for (const timer of [this.timer, this.beat, this.patience, this.retry]) this.timers.clearTimeout(timer);
  }
}
