// The run that the page shows, over a socket that a test holds in its hands.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { RunSession } from "../../static/js/lib/run_session.js";
import { LiveSocket } from "../../static/js/lib/socket.js";
import { FakeSocket, FakeTimers } from "./wire.js";

const RUN = "a".repeat(32);
const spec = { prompt: { mode: "completion", text: "x" }, lanes: [{ model: "m", overrides: {} }], params: {} };
const created = { n: 1, type: "run.created", run: RUN, spec, at: 0 };
const token = (n, index, text) => ({ n, type: "lane.token", lane: 0, index, ids: [index], text, at: n * 10 });
const done = (n) => ({ n, type: "lane.done", lane: 0, finish: "stop", figures: {}, at: 0 });
let timers;
let socket;
let session;
const wire = () => FakeSocket.all.at(-1);
const events = (...list) => wire().say({ type: "events", frame: 1, run: RUN, events: list });
const sent = (type) => wire().sent.filter((frame) => frame.type === type);

beforeEach(() => {
  FakeSocket.all = [];
  timers = new FakeTimers();
  socket = new LiveSocket("ws://test", { WebSocket: FakeSocket, timers, random: () => 1 });
  session = new RunSession(socket);
  socket.open();
  wire().hello();
});

const begin = () => {
  const clientId = session.start(spec);
  wire().say({ type: "run.accepted", client_id: clientId, run: RUN });
};

test("a start shows its lanes as queued before the server has answered", () => {
  session.start(spec);
  assert.equal(session.running, true);
  assert.deepEqual(session.state.lanes.map((lane) => lane.state), ["queued"]);
});

test("Stop before the server has answered stops as soon as the run has its id", () => {
  const clientId = session.start(spec);
  session.stop();
  assert.deepEqual(sent("run.stop"), []);
  wire().say({ type: "run.accepted", client_id: clientId, run: RUN });
  assert.deepEqual(sent("run.stop"), [{ type: "run.stop", run: RUN }]);
});

test("text survives a break without a character lost or doubled", () => {
  begin();
  events(created, token(2, 0, "one "), token(3, 1, "two "));
  wire().drop();
  timers.pass(250);
  wire().hello();
  assert.deepEqual(sent("run.follow"), [{ type: "run.follow", run: RUN, after: 3 }]);
  events(token(3, 1, "two "), token(4, 2, "three"), done(5));
  assert.equal(session.state.lanes[0].text, "one two three");
  assert.equal(session.running, false);
});

test("a gap in the numbers is asked for, not shown", () => {
  begin();
  events(created, token(2, 0, "one "));
  events(token(4, 2, "three"));
  assert.equal(session.state.lanes[0].text, "one ");
  assert.deepEqual(sent("run.follow").at(-1), { type: "run.follow", run: RUN, after: 2 });
});

test("reset forgets the text, and the log from the beginning brings it back", () => {
  begin();
  events(created, token(2, 0, "old"));
  wire().say({ type: "reset", run: RUN });
  assert.deepEqual(session.state.lanes, []);
  events(created, token(2, 0, "new"));
  assert.equal(session.state.lanes[0].text, "new");
});

test("a refused start leaves nothing running", () => {
  const clientId = session.start(spec);
  wire().say({ type: "error", code: "bad_parameter", message: "no", field: null, ref: { type: "run.start", client_id: clientId } });
  assert.equal(session.running, false);
  assert.deepEqual(session.state.lanes, []);
});

test("events of another run are not mixed in", () => {
  begin();
  wire().say({ type: "events", frame: 1, run: "b".repeat(32), events: [created, token(2, 0, "foreign")] });
  assert.equal(session.state.last, 0);
});

test("a repeated lane tells its place, and an ended lane is not stopped", () => {
  begin();
  events(created, token(2, 0, "x"), done(3));
  session.stopLane(0);
  assert.deepEqual(sent("lane.stop"), []);
  const added = [];
  session.addEventListener("added", ({ detail }) => added.push(detail));
  session.add(0, spec.lanes[0], {}, "key");
  assert.equal(session.running, true);
  const [frame] = sent("lane.rerun");
  wire().say({ type: "lane.accepted", run: RUN, lane: 1, replaces: 0, client_id: frame.client_id });
  assert.deepEqual(added, [{ tag: "key", lane: 1, replaces: 0 }]);
});

test("speed is that of the last two seconds of the worker's clock", () => {
  begin();
  events(created, ...Array.from({ length: 11 }, (_, i) => ({ ...token(i + 2, i, "x"), at: i * 100 })));
  assert.equal(session.rateOf(0), 10);
});
