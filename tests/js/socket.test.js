// The socket: acknowledges, resumes, repeats what was not answered, and backs off. Socket, clock and chance are given.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { LiveSocket } from "../../static/js/lib/socket.js";
import { FakeSocket, FakeTimers } from "./wire.js";

let timers;
let live;
const newest = () => FakeSocket.all.at(-1);
const start = { type: "run.start", client_id: "c".repeat(32), spec: {} };

beforeEach(() => {
  FakeSocket.all = [];
  timers = new FakeTimers();
  live = new LiveSocket("ws://test/live", { WebSocket: FakeSocket, timers, random: () => 1 });
  live.open();
});

test("every events frame is acknowledged, also when a listener fails", () => {
  newest().hello();
  live.addEventListener("events", () => {});
  newest().say({ type: "events", frame: 1, run: "r", events: [] });
  newest().say({ type: "events", frame: 2, run: "r", events: [] });
  assert.deepEqual(newest().sent, [{ type: "ack", frame: 1 }, { type: "ack", frame: 2 }]);
});

test("after a break every followed run is asked for from its last number", () => {
  newest().hello();
  let last = 0;
  live.follow("r", () => last);
  live.follow("gone", () => 3);
  live.unfollow("gone");
  last = 41;
  newest().drop();
  timers.pass(250);
  newest().hello();
  assert.deepEqual(newest().sent, [{ type: "run.follow", run: "r", after: 41 }]);
});

test("a command is repeated until it is answered, and then no more", () => {
  live.command(start);
  assert.deepEqual(newest().sent, []);
  newest().hello();
  assert.deepEqual(newest().types(), ["run.start"]);
  newest().drop();
  timers.pass(250);
  newest().hello();
  assert.deepEqual(newest().types(), ["run.start"]);
  newest().say({ type: "run.accepted", client_id: start.client_id, run: "r" });
  newest().drop();
  timers.pass(250);
  newest().hello();
  assert.deepEqual(newest().types(), []);
});

test("stops of a lane and of the run are settled by their own answers", () => {
  newest().hello();
  live.command({ type: "lane.stop", run: "r", lane: 0 });
  live.command({ type: "run.stop", run: "r" });
  newest().say({ type: "stop.accepted", run: "r", lane: 0 });
  assert.deepEqual([...live.commands.values()].map((frame) => frame.type), ["run.stop"]);
  newest().say({ type: "stop.accepted", run: "r", lane: null });
  assert.equal(live.commands.size, 0);
});

test("a refused command is not repeated; one that met a bus that is down is", () => {
  newest().hello();
  const refused = [];
  live.addEventListener("refused", ({ detail }) => refused.push([detail.code, detail.command?.type]));
  live.command(start);
  newest().say({ type: "error", code: "bus_down", message: "", field: null, ref: { type: "run.start", client_id: start.client_id } });
  assert.equal(live.commands.size, 1);
  timers.pass(1000);
  assert.deepEqual(newest().types(), ["run.start", "run.start"]);
  newest().say({ type: "error", code: "bad_parameter", message: "", field: "lanes", ref: { type: "run.start", client_id: start.client_id } });
  assert.equal(live.commands.size, 0);
  assert.deepEqual(refused, [["bus_down", "run.start"], ["bad_parameter", "run.start"]]);
});

test("waits grow from a quarter of a second to five, and begin anew after a hello", () => {
  const waits = [];
  for (let i = 0; i < 7; i++) {
    const before = FakeSocket.all.length;
    newest().drop();
    const from = timers.now;
    while (FakeSocket.all.length === before) timers.pass(1);
    waits.push(timers.now - from);
  }
  assert.deepEqual(waits, [250, 500, 1000, 2000, 4000, 5000, 5000]);
  newest().hello();
  newest().drop();
  timers.pass(250);
  assert.equal(FakeSocket.all.length, 9);
});

test("chance shortens a wait to half of it at most", () => {
  live.random = () => 0;
  newest().drop();
  timers.pass(124);
  assert.equal(FakeSocket.all.length, 1);
  timers.pass(1);
  assert.equal(FakeSocket.all.length, 2);
});

test("a connection that answers nothing is given up and made again", () => {
  newest().hello();
  timers.pass(20_000);
  assert.deepEqual(newest().types(), ["ping"]);
  timers.pass(8_000);
  assert.equal(live.state, "waiting");
  timers.pass(250);
  assert.equal(FakeSocket.all.length, 2);
});

test("a pong keeps the connection", () => {
  newest().hello();
  timers.pass(20_000);
  newest().say({ type: "pong", t: 0 });
  timers.pass(8_000);
  assert.equal(live.state, "open");
});

test("a woken tab connects at once", () => {
  newest().drop();
  live.wake();
  assert.equal(FakeSocket.all.length, 2);
  assert.equal(live.state, "connecting");
});

test("who is signed out is told so and not connected again", () => {
  newest().hello();
  newest().drop(4401);
  timers.pass(60_000);
  assert.equal(FakeSocket.all.length, 1);
  assert.equal(live.state, "closed");
  assert.match(live.reason, /Sign in again/);
});

test("a server of another protocol asks for a reload", () => {
  newest().hello({ protocol: 2 });
  assert.match(live.reason, /Reload/);
  timers.pass(60_000);
  assert.equal(FakeSocket.all.length, 1);
});

test("a frame that is larger than the server takes is not sent", () => {
  newest().hello();
  assert.equal(live.command({ ...start, spec: "é".repeat(600_000) }), false);
  assert.deepEqual(newest().sent, []);
});

test("rubbish from the wire is passed over", () => {
  newest().hello();
  for (const text of ["", "null", "[]", "{", '{"type":5}', '{"type":"unheard.of"}']) newest().say(text);
  assert.equal(live.state, "open");
});
