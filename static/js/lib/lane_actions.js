// What can be done with a column: each a change of the bench's draft, screen or run.

import { branchSpec, unbranchable } from "./branch.js";
import { moved, newLane, sharedParams, toLaneSpec, xrayOf } from "./draft.js";
import { takesOfLane } from "./lane_views.js";
import { hasEnded } from "./run_store.js";

const SWEEP = [0, 0.5, 1, 1.5]; // strengths that show where an answer turns

export class LaneActions {
  constructor(bench) {
    this.bench = bench;
  }

  do({ name, key, model, strength, lane, at, id }) {
    const index = this.bench.draft.lanes.findIndex((lane) => lane.key === key);
    if (index < 0) return;
    const names = {
      stop: () => this.#stop(key),
      again: () => this.#again(key),
      settings: () => this.#toggleSettings(key),
      full: () => this.#toggleFull(key),
      left: () => this.#move(index, index - 1),
      right: () => this.#move(index, index + 1),
      swap: () => this.#move(index, index + 1),
      duplicate: () => this.#duplicate(index),
      remove: () => this.#remove(index),
      earlier: () => this.#choose(key, -1),
      later: () => this.#choose(key, 1),
      // A strength is of an adapter; another model begins at its own.
      model: () => this.#edit(index, { model, strength: null, prefix: [] }),
      strength: () => this.#edit(index, { strength }),
      sweep: () => this.#sweep(index),
      xray: () => this.#xray(key),
      unprefix: () => this.#edit(index, { prefix: [] }),
      branch: () => this.#branch(key, lane, at, id),
    };
    names[name]?.();
  }

  add() {
    const { bench } = this;
    if (bench.draft.lanes.length >= bench.start.limits.lanes) return;
    const used = new Set(bench.draft.lanes.map((lane) => lane.model));
    const model = bench.models.find(({ id }) => !used.has(id))?.id ?? bench.draft.lanes.at(-1)?.model ?? bench.start.welcome.lanes[0].model;
    bench.edit((draft) => ({ ...draft, lanes: [...draft.lanes, newLane({ model })] }));
    requestAnimationFrame(() => requestAnimationFrame(() => bench.strip.go(bench.draft.lanes.length - 1, false)));
  }

  /** The server has given a further answer its place in the run. */
  added({ tag: key, lane, replaces }) {
    this.bench.screen.chosen.delete(key);
    if (replaces !== null) return this.bench.showRun();
    this.bench.edit((draft) => ({ ...draft, bound: { ...draft.bound, roots: { ...draft.bound.roots, [key]: lane } } }));
    this.bench.keep();
  }

  #stop(key) {
    for (const take of this.#takes(key)) if (!hasEnded(take)) this.bench.session.stopLane(take.lane);
  }

  /** This lane alone once more, with the draft's settings of now. Without a run, the whole draft is the first one. */
  #again(key) {
    const { bench } = this;
    if (!bench.session.run) return bench.run();
    const lane = bench.draft.lanes.find((candidate) => candidate.key === key);
    const last = this.#takes(key).at(-1);
    const spec = toLaneSpec(bench.catalog, bench.draft, lane);
    const params = sharedParams(bench.catalog, bench.draft);
    if (!bench.session.add(last ? last.lane : null, spec, params, key)) bench.complain("This lane cannot be run now.");
    bench.screen.chosen.delete(key);
  }

  #toggleSettings(key) {
    const { settings } = this.bench.screen;
    if (!settings.delete(key)) settings.add(key);
    this.bench.showRun();
  }

  #toggleFull(key) {
    this.bench.screen.full = this.bench.screen.full === key ? null : key;
    this.bench.showRun();
  }

  #choose(key, step) {
    const { chosen } = this.bench.screen;
    const count = this.#takes(key).length;
    const next = (chosen.get(key) ?? count - 1) + step;
    if (next >= count - 1) chosen.delete(key);
    else chosen.set(key, Math.max(0, next));
    this.bench.showRun();
  }

  #move(from, to) {
    this.bench.edit((draft) => ({ ...draft, lanes: moved(draft.lanes, from, to) }));
  }

  #duplicate(index) {
    if (this.bench.draft.lanes.length >= this.bench.start.limits.lanes) return;
    this.bench.edit((draft) => ({ ...draft, lanes: draft.lanes.toSpliced(index + 1, 0, newLane(draft.lanes[index])) }));
  }

  /** The same model beside itself at other strengths of its adapter, as many as there is room for. */
  #sweep(index) {
    const { bench } = this;
    const lane = bench.draft.lanes[index];
    const own = lane.strength ?? 1;
    const room = bench.start.limits.lanes - bench.draft.lanes.length;
    const further = SWEEP.filter((strength) => strength !== own).slice(0, room);
    const lanes = (keep) => further.filter(keep).map((strength) => newLane({ ...lane, strength: strength === 1 ? null : strength }));
    const row = [...lanes((strength) => strength < own), lane, ...lanes((strength) => strength > own)];
    bench.edit((draft) => ({ ...draft, lanes: draft.lanes.toSpliced(index, 1, ...row) }));
  }

  /** The prompt and this answer, to be read by all models of the page. */
  #xray(key) {
    const { bench } = this;
    const answer = bench.shownTake(key);
    if (!answer?.text) return;
    bench.drafts.save("xray", bench.forXray(xrayOf(bench.catalog, bench.draft, bench.session.state.spec, answer.text)));
    location.assign("/xray");
  }

  /** Answer again, the same up to token `at` of lane `lane`, with token `id` in its place. */
  #branch(key, index, at, id) {
    const { bench } = this;
    const lane = bench.session.state.lanes[index];
    const info = bench.models.find((model) => model.id === lane?.model);
    if (!lane || bench.start.read_only) return;
    const why = unbranchable(lane, at, info, bench.start.limits);
    if (why) return bench.complain(why);
    if (!bench.session.add(lane.lane, branchSpec(lane, at, id), null, key)) return bench.complain("This lane cannot be run now.");
    bench.complain("");
    bench.screen.chosen.delete(key);
  }

  /** What nobody sees any more is not worth computing: its answer is stopped. Undo brings the column and its text back. */
  #remove(index) {
    const { bench } = this;
    const lane = bench.draft.lanes[index];
    if (bench.draft.lanes.length < 2) return;
    this.#stop(lane.key);
    if (bench.screen.full === lane.key) bench.screen.full = null;
    bench.edit((draft) => ({ ...draft, lanes: draft.lanes.toSpliced(index, 1), bound: draft.bound && { ...draft.bound, adopt: false } }));
    const undo = () => bench.edit((draft) => ({ ...draft, lanes: draft.lanes.toSpliced(index, 0, lane) }));
    bench.notice({ text: "Lane removed.", undo });
  }

  #edit(index, change) {
    this.bench.edit((draft) => ({ ...draft, lanes: draft.lanes.with(index, { ...draft.lanes[index], ...change }) }));
  }

  #takes(key) {
    return takesOfLane(this.bench.draft, this.bench.session.state, key);
  }
}
