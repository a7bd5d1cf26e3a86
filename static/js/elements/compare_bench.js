// The compare page: holds the draft and the run, hands them down to the elements, and does what these tell it.
// Everything flows one way: an element tells "edit" or "act", the bench changes draft or run, and shows both again.

import {
  complaint, emptyDraft, fingerprint, fingerprintOf, fromSpec, newLane, setBeliefs, toSpec, withBeliefs, withCatalog, withServedModels,
} from "../lib/draft.js";
import { DraftStore } from "../lib/draft_store.js";
import { part, setText, tell } from "../lib/dom.js";
import { LaneActions } from "../lib/lane_actions.js";
import { laneViews, takesOfLane } from "../lib/lane_views.js";
import { PresetBinding } from "../lib/preset_binding.js";
import { RunSession } from "../lib/run_session.js";
import { rootsOf } from "../lib/run_store.js";
import { Shortcuts } from "../lib/shortcuts.js";
import { LiveSocket } from "../lib/socket.js";
import { summary } from "../lib/sentences.js";
import { TokenScreen } from "../lib/token_screen.js";
import { withNextMessage } from "./prompt_editor.js";

const SAVE_AFTER = 150; // milliseconds of quiet typing
const RECORDED_AFTER = 1000; // milliseconds until the recorder has surely written an ended run down

class CompareBench extends HTMLElement {
  connectedCallback() {
    this.start = JSON.parse(document.getElementById("start").textContent);
    this.catalog = this.start.catalog;
    this.place = this.start.place;
    this.models = [];
    this.workers = [];
    this.marks = true;
    this.drafts = new DraftStore(storage("sessionStorage"), storage("localStorage"));
    this.screen = { chosen: new Map(), full: null, settings: new Set(), tokens: false, tint: "probability" };
    this.#find();
    this.draft = this.#firstDraft();
    this.socket = new LiveSocket(address(this.start.share));
    this.session = new RunSession(this.socket);
    this.lanes = new LaneActions(this);
    this.presets = new PresetBinding(this);
    this.tokens = new TokenScreen(this, storage("localStorage"));
    this.shortcuts = new Shortcuts(this);
    this.#listen();
    this.panel.prepare({ catalog: this.catalog, limits: this.start.limits });
    this.strip.prepare({ catalog: this.catalog, limits: this.start.limits });
    this.socket.open();
    this.#resume();
    this.showDraft();
    if (this.later) this.#offerLater();
  }

  disconnectedCallback() {
    this.socket.close();
  }

  get spec() {
    return toSpec(this.catalog, this.draft);
  }

  /** Change the draft by a function, show it, keep it. */
  edit(change) {
    const next = change(this.draft);
    if (next === this.draft) return;
    this.draft = next.lanes === this.draft.lanes ? next : withBeliefs(next, this.models);
    this.showDraft();
    clearTimeout(this.saving);
    this.saving = setTimeout(() => this.keep(), SAVE_AFTER);
  }

  keep() {
    clearTimeout(this.saving);
    if (!this.start.read_only) this.drafts.save(this.place, this.draft);
  }

  run() {
    if (this.start.read_only || this.session.running) return;
    const wrong = complaint(this.draft, this.start.limits) ?? this.#impossible();
    if (wrong) {
      this.editor.focusPrompt(wrong.message);
      return this.complain(wrong.text);
    }
    this.complain("");
    const clientId = this.session.start(this.spec);
    if (!clientId) return this.complain("The prompt is too long to be sent. Shorten it.");
    this.#bindAll({ client_id: clientId, spec: this.spec });
    this.#showLanes();
  }

  stop() {
    this.session.stop();
  }

  complain(text) {
    this.banner.hidden = !text;
    setText(this.banner, text);
  }

  notice(toast) {
    document.querySelector("toast-rack").show(toast);
  }

  /** Show what depends on the draft, and then the run. */
  showDraft() {
    const models = this.draft.lanes.map((lane) => this.models.find((model) => model.id === lane.model)).filter(Boolean);
    this.editor.show(this.draft);
    this.panel.show({ panel: this.draft.params, models, readOnly: this.start.read_only, xray: this.draft.xray });
    this.classList.toggle("xray", Boolean(this.draft.xray));
    for (const radio of this.querySelectorAll('[name="mode"]')) radio.checked = radio.value === this.draft.mode;
    this.#showMore();
    this.#showTitle();
    this.showRun();
  }

  /** What belongs to the prompt besides its words. */
  #showMore() {
    const { mode, messages, continueFinal, tools = [], xray } = this.draft;
    const chat = mode === "chat";
    part(this, "continue-row").hidden = !chat || messages.at(-1)?.role !== "assistant";
    part(this, "continue").checked = Boolean(continueFinal);
    part(this, "continue-row").lastChild.textContent = xray ? "The text ends with the last message" : "Go on with the last message";
    part(this, "tools").hidden = !chat || tools.length === 0;
    setText(part(this, "tools-words"), `With ${tools.length} ${tools.length === 1 ? "tool" : "tools"}: ${tools.map(({ name }) => name).join(", ")}`);
  }

  /** The address and the place of the draft change together; what was there before keeps a draft of its own. */
  moveTo(place, url, left) {
    if (place === this.place) return;
    // A run that somebody edited into another one is itself as it was.
    if (this.place.startsWith("run:")) this.drafts.forget(this.place);
    else this.drafts.save(this.place, left);
    history.pushState(null, "", url);
    this.place = place;
  }

  /** At most once a frame, however many tokens come in it. */
  showRun() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      const { session, socket, workers } = this;
      const live = {
        state: session.state, starting: session.starting !== null, stopping: session.stopping,
        rateOf: (lane) => session.rateOf(lane), connection: socket.state, workers,
      };
      const { limits, read_only: readOnly } = this.start;
      const views = laneViews({ catalog: this.catalog, draft: this.draft, models: this.models, screen: this.screen, live, limits, readOnly });
      this.views = views;
      this.tokens.show(views);
      this.strip.show(views, this.marks);
      this.strip.classList.toggle("has-full", this.screen.full !== null);
      this.#showButtons();
      setText(part(this, "status"), summary(views.map((view) => view.lane).filter(Boolean)));
    });
  }

  #find() {
    this.editor = this.querySelector("prompt-editor");
    this.panel = this.querySelector("param-panel[data-shared]");
    this.strip = this.querySelector("lane-strip");
    this.bar = this.querySelector("preset-bar");
    this.banner = part(this, "banner");
    this.pill = document.querySelector("worker-pill");
  }

  #firstDraft() {
    const loaded = this.start.read_only ? null : this.drafts.load(this.place);
    if (!loaded) return this.#draftAsOpened();
    const kept = withCatalog(this.catalog, loaded);
    const [visit] = performance.getEntriesByType("navigation");
    const reloaded = ["reload", "back_forward"].includes(visit?.type);
    if (["new", "xray"].includes(this.place) || kept.pending || reloaded || this.#holds(kept)) return kept;
    this.later = kept;
    return this.#draftAsOpened();
  }

  #holds(draft) {
    return fingerprint(toSpec(this.catalog, draft)) === fingerprintOf(this.catalog, this.start.spec);
  }

  /** A preset or a run as it was kept by the server. */
  #draftAsOpened() {
    const { start } = this;
    const draft = fromSpec(this.catalog, start.spec);
    if (start.preset) draft.preset = { ...start.preset, spec: fingerprintOf(this.catalog, start.spec) };
    if (start.run) draft.bound = { run: start.run.id, roots: rootsByOrder(draft.lanes), adopt: true };
    return draft;
  }

  /** Whoever opens a run or a preset sees it as it was; what was typed on top of it then is not lost either. */
  #offerLater() {
    const text = "Shown as it was kept. You had edited it since.";
    this.notice({ text, action: "Bring my edits back", undo: () => this.edit((draft) => ({ ...this.later, bound: draft.bound && this.later.bound })) });
  }

  /** Follow the run that was there before a reload, or repeat the start that was on its way. */
  #resume() {
    const run = this.start.run?.id ?? this.draft.bound?.run;
    if (this.draft.pending) this.session.start(this.draft.pending.spec, this.draft.pending.client_id);
    else if (run) this.session.open(run);
  }

  /** The columns show the run that begins now. */
  #bindAll(pending) {
    this.screen.chosen.clear();
    this.edit((draft) => ({ ...draft, pending, bound: { run: null, roots: rootsByOrder(draft.lanes) } }));
    this.keep();
  }

  #listen() {
    this.addEventListener("edit", ({ detail }) => this.edit(detail));
    this.addEventListener("act", ({ detail }) => this.tokens.do(detail) || this.lanes.do(detail));
    this.addEventListener("notice", ({ detail }) => this.notice(detail));
    this.addEventListener("undoable", ({ detail }) => this.notice({ text: detail.text, undo: () => this.edit(detail.undo) }));
    this.addEventListener("click", ({ target }) => this.#press(target.closest("[data-do]")));
    this.addEventListener("change", ({ target }) => target.name === "mode" && this.edit((draft) => ({ ...draft, mode: target.value })));
    part(this, "continue").addEventListener("change", ({ target }) => this.edit((draft) => ({ ...draft, continueFinal: target.checked })));
    this.querySelector("[data-search]")?.addEventListener("input", () => this.#search());
    this.socket.addEventListener("state", () => this.#showConnection());
    this.socket.addEventListener("models", ({ detail }) => this.#served(detail));
    this.session.addEventListener("change", () => this.#changed());
    this.session.addEventListener("started", ({ detail }) => this.#started(detail.run));
    this.session.addEventListener("added", ({ detail }) => this.lanes.added(detail));
    this.session.addEventListener("refused", ({ detail }) => this.#refused(detail));
    this.#listenToWindow();
  }

  #listenToWindow() {
    addEventListener("pagehide", () => this.keep());
    addEventListener("online", () => this.socket.wake());
    addEventListener("popstate", () => location.reload());
    document.addEventListener("visibilitychange", () => (document.hidden ? this.keep() : this.socket.wake()));
  }

  #press(button) {
    const names = {
      run: () => this.run(),
      stop: () => this.stop(),
      "add-message": () => this.addMessage(),
      "add-lane": () => this.lanes.add(),
      fork: () => this.toggleMarks(),
      tokens: () => this.toggleTokens(),
      new: () => this.#new(),
      use: () => this.#use(),
      "drop-tools": () => this.edit((draft) => ({ ...draft, tools: [] })),
    };
    if (button && !button.closest(".lane")) names[button.dataset.do]?.();
  }

  addMessage() {
    this.edit(withNextMessage);
    this.editor.focusPrompt(this.draft.messages.at(-1).id);
  }

  toggleMarks() {
    this.marks = !this.marks;
    this.querySelector('[data-do="fork"]').setAttribute("aria-pressed", String(this.marks));
    this.showRun();
  }

  toggleTokens(on = !this.screen.tokens) {
    this.tokens.set({ tokens: on });
  }

  goRemarkable(step) {
    this.tokens.next(step);
  }

  /** The answer that a column shows now. */
  shownTake(key) {
    const takes = takesOfLane(this.draft, this.session.state, key);
    return takes[this.screen.chosen.get(key) ?? takes.length - 1] ?? null;
  }

  /** A draft for the X-ray page: all lanes read with each other's beliefs in view. */
  forXray(draft) {
    return setBeliefs(draft, true, this.models);
  }

  /** What a lane's engine does not do is said before anything is sent. */
  #impossible() {
    const view = this.views?.find(({ impossible }) => impossible.length);
    if (!view) return null;
    const [{ label, why }] = view.impossible;
    return { text: `Lane ${view.index + 1}, ${view.name}, has no ${label.toLowerCase()}: ${why} Switch it off, for all lanes or for this one.` };
  }

  #new() {
    const place = this.draft.xray ? "xray" : "new";
    const before = this.drafts.load(place);
    const lanes = this.draft.lanes.map(({ key, model }) => newLane({ model }, key));
    const empty = { ...emptyDraft(this.catalog, place === "xray" ? this.start.xray : this.start.welcome), lanes };
    this.drafts.save(place, place === "xray" ? this.forXray(empty) : empty);
    if (this.place !== place) return location.assign(place === "xray" ? "/xray" : "/");
    this.session.clear();
    this.draft = this.drafts.load(place);
    this.showDraft();
    this.editor.focusPrompt();
    this.notice({ text: "New prompt.", undo: () => before && this.edit(() => before) });
  }

  #use() {
    const draft = fromSpec(this.catalog, this.start.spec);
    this.drafts.save(draft.xray ? "xray" : "new", draft);
    location.assign(draft.xray ? "/xray" : "/");
  }

  #search() {
    clearTimeout(this.searching);
    this.searching = setTimeout(() => ["presets:refresh", "runs:refresh"].forEach((name) => tell(document.body, name)), 200);
  }

  #served({ models, workers }) {
    Object.assign(this, { models, workers });
    this.#showConnection();
    // A first visit begins with models that are really there; whoever has chosen one keeps it.
    const first = { new: this.start.welcome, xray: this.start.xray }[this.place];
    const plain = (spec) => fingerprint({ ...spec, lanes: spec.lanes.map(({ model }) => model) });
    const untouched = first && plain(this.spec) === plain(toSpec(this.catalog, fromSpec(this.catalog, first)));
    if (untouched) this.draft = { ...this.draft, lanes: withServedModels(this.draft.lanes, models) };
    if (this.place === "xray" && untouched) this.draft = setBeliefs(this.draft, true, models);
    this.showDraft();
  }

  #changed() {
    if (this.draft.bound?.adopt) this.#adopt();
    this.showRun();
    const { running } = this.session;
    if (this.wasRunning && !running) setTimeout(() => tell(document.body, "runs:refresh"), RECORDED_AFTER);
    this.wasRunning = running;
  }

  /** A run that is opened anew shows the columns that were added to it after its start, too. */
  #adopt() {
    const { bound } = this.draft;
    const known = new Set(Object.values(bound.roots));
    const missing = rootsOf(this.session.state).filter((root) => !known.has(root));
    if (missing.length === 0) return;
    const roots = { ...bound.roots };
    const lanes = [...this.draft.lanes];
    for (const root of missing) {
      const key = `run-${root}`;
      roots[key] = root;
      lanes.push(newLane(this.session.state.lanes[root], key));
    }
    this.draft = { ...this.draft, lanes, bound: { ...bound, roots } };
    this.showDraft();
  }

  #started(run) {
    this.draft = { ...this.draft, pending: null, bound: { ...this.draft.bound, run } };
    this.moveTo(`run:${run}`, `/runs/${run}`, { ...this.draft, bound: null });
    const asked = this.draft.messages.findLast(({ role }) => role === "user")?.content ?? "";
    this.runTitle = (this.draft.mode === "chat" ? asked : this.draft.text).slice(0, 80);
    this.keep();
    this.showDraft();
    this.#showLanes(); // the title may have grown since the press
    document.getElementById("run-list")?.setAttribute("hx-vals", JSON.stringify({ current: run }));
    tell(document.body, "runs:refresh");
  }

  #refused({ code, message, ref }) {
    if (ref?.type === "run.start" && code !== "bus_down" && this.draft.pending) {
      this.draft = { ...this.draft, pending: null, bound: null };
      this.keep();
    }
    this.complain(message);
    if (code === "bus_down") this.interrupted = true;
  }

  /** On a phone the lanes lie below the prompt. */
  #showLanes() {
    this.strip.scrollIntoView({ block: "start" });
  }

  #showTitle() {
    const run = this.session.run;
    const runTitle = this.runTitle ?? this.start.run?.title;
    this.bar?.show({ preset: this.draft.preset, run, runTitle, edited: this.presets.edited });
    const name = this.draft.preset?.name ?? (run ? runTitle : "");
    if (this.bar) document.title = `${name || (this.draft.xray ? "X-ray" : "Compare")} · Diptych`;
  }

  #showButtons() {
    const [run, stop] = ["run", "stop"].map((name) => this.querySelector(`.run-bar [data-do="${name}"]`));
    if (!run) return;
    const { running } = this.session;
    const focused = document.activeElement;
    run.disabled = running;
    stop.disabled = !running;
    if (focused === run && running) stop.focus({ preventScroll: true });
    if (focused === stop && !running) run.focus({ preventScroll: true });
    this.querySelector('[data-do="add-lane"]').disabled = this.draft.lanes.length >= this.start.limits.lanes;
    this.querySelector('[data-do="add-message"]').hidden = this.draft.mode !== "chat";
    setText(part(this, "run-word"), this.draft.xray ? "X-ray" : "Run");
  }

  #showConnection() {
    const { state, reason } = this.socket;
    this.pill.show({ workers: this.workers, connection: state, reason });
    if (state === "open" && this.interrupted) this.complain("");
    if (state === "closed" && reason) this.complain(reason);
    this.interrupted = state === "waiting";
    this.showRun();
  }
}

const rootsByOrder = (lanes) => Object.fromEntries(lanes.map((lane, index) => [lane.key, index]));

function address(share) {
  const url = new URL("/live", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  if (share) url.searchParams.set("share", share);
  return url.href;
}

function storage(name) {
  try {
    return window[name];
  } catch {
    return null; // a browser that forbids it throws already here
  }
}

customElements.define("compare-bench", CompareBench);
