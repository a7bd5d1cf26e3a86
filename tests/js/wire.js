// A socket and a clock that a test holds in its hands. Not a test itself.

export class FakeSocket {
  static all = [];
  constructor(url) {
    Object.assign(this, { url, readyState: 0, sent: [] });
    FakeSocket.all.push(this);
  }
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close() {
    this.readyState = 3;
  }
  /** The server opens, says hello, speaks, goes away. */
  hello(more = {}) {
    this.readyState = 1;
    this.say({ type: "hello", protocol: 1, build: "test", window: { frames: 64, bytes: 262144 }, ...more });
  }
  say(frame) {
    this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }
  drop(code = 1006) {
    this.readyState = 3;
    this.onclose?.({ code });
  }
  types() {
    return this.sent.map((frame) => frame.type);
  }
}

export class FakeTimers {
  now = 0;
  next = 1;
  due = new Map();
  setTimeout = (call, wait) => {
    this.due.set(this.next, { at: this.now + wait, call });
    return this.next++;
  };
  clearTimeout = (id) => this.due.delete(id);
  pass(milliseconds) {
    const end = this.now + milliseconds;
    for (;;) {
      const first = [...this.due].filter(([, { at }]) => at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (!first) break;
      this.due.delete(first[0]);
      this.now = first[1].at;
      first[1].call();
    }
    this.now = end;
  }
}
