// The reducer of the page says the same as the one of the server: both read tests/protocol/sample.json.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { emptyRun, isRunning, reduce, reduceAll, rootsOf, takesOf } from "../../static/js/lib/run_store.js";

const sample = JSON.parse(readFileSync(new URL("../protocol/sample.json", import.meta.url)));
const shortly = (state) => state.lanes.map((lane) => [lane.state, lane.tokens, lane.text]);

test("all events of the sample give its state", () => {
  assert.deepEqual(reduceAll(emptyRun(), sample.events), sample.state);
});

test("after each event every lane stands as the sample says", () => {
  let state = emptyRun();
  for (const event of sample.events) {
    state = reduce(state, event);
    const expected = sample.prefixes.find((prefix) => prefix.after === event.n);
    assert.deepEqual(shortly(state), expected.lanes, `after ${event.n}`);
  }
});

test("a log that is cut and sent again from any place gives the same state", () => {
  for (let cut = 0; cut <= sample.events.length; cut++) {
    const half = reduceAll(emptyRun(), sample.events.slice(0, cut));
    const again = sample.events.slice(Math.max(0, cut - 3));
    assert.deepEqual(reduceAll(half, again), sample.state);
  }
});

test("a state is never changed in place", () => {
  const states = [emptyRun()];
  const copies = [structuredClone(states[0])];
  for (const event of sample.events) {
    states.push(reduce(states.at(-1), event));
    copies.push(structuredClone(states.at(-1)));
  }
  assert.deepEqual(states, copies);
});

test("a run is running until its last lane has ended", () => {
  const created = { n: 1, type: "run.created", run: "r", spec: { lanes: [{ model: "m" }, { model: "m" }] }, at: 0 };
  const stopped = (n, lane) => ({ n, type: "lane.stopped", lane, figures: {}, at: 0 });
  assert.equal(isRunning(reduceAll(emptyRun(), [created, stopped(2, 0)])), true);
  assert.equal(isRunning(reduceAll(emptyRun(), [created, stopped(2, 0), stopped(3, 1)])), false);
});

test("takes of a column are the lane and what replaced it, in order", () => {
  const spec = { model: "m", overrides: {} };
  const added = (n, lane, replaces) => ({ n, type: "lane.added", lane, spec, replaces, at: 0 });
  const created = { n: 1, type: "run.created", run: "r", spec: { lanes: [spec, spec] }, at: 0 };
  const state = reduceAll(emptyRun(), [created, added(2, 2, 0), added(3, 3, 2), added(4, 4, null), added(5, 5, 1)]);
  assert.deepEqual(takesOf(state, 0).map((take) => take.lane), [0, 2, 3]);
  assert.deepEqual(takesOf(state, 1).map((take) => take.lane), [1, 5]);
  assert.deepEqual(rootsOf(state), [0, 1, 4]);
});

test("text without ids counts by its index, and its insight ends there", () => {
  const spec = { model: "m", overrides: {} };
  const created = { n: 1, type: "run.created", run: "r", spec: { lanes: [spec] }, at: 0 };
  const said = (n, index, text, insight) => ({ n, type: "lane.token", lane: 0, index, ids: [], text, at: 0, insight });
  const state = reduceAll(emptyRun(), [created, said(2, 2, "ab", ["a", "b"]), said(3, 3, "c", ["c"]), said(4, 5, "")]);
  assert.deepEqual([state.lanes[0].text, state.lanes[0].tokens], ["abc", 5]);
  assert.deepEqual(state.lanes[0].insight, ["a", "b", "c"]);
});
