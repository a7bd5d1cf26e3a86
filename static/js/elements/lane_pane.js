// One column: header, settings, text, foot. Shows the view of a lane that it is given; keeps nothing but its DOM.
// Tells "act" {name, key, ...} when somebody presses something.

import { icon, make, part, setLabel, setText, tell } from "../lib/dom.js";
import { StickToEnd } from "../lib/scroll.js";
import { facts, xrayFacts } from "../lib/sentences.js";
import { LaneTokens } from "./lane_tokens.js";

const IDLE = { run: "Press Run, and the answer appears here.", xray: "Press X-ray, and the text appears here as this model reads it." };
let counter = 0;

export class LanePane {
  constructor(template, { catalog, limits, key }) {
    this.root = document.importNode(template.content.firstElementChild, true);
    this.root.id = `lane-${key}`;
    this.key = key;
    this.catalog = catalog;
    this.answer = this.root.querySelector("answer-text");
    this.tokens = new LaneTokens(this.root, key);
    this.dial = this.root.querySelector("strength-dial");
    this.dial.prepare(key);
    this.body = part(this.root, "body");
    this.stick = new StickToEnd(this.body);
    this.model = part(this.root, "model");
    this.settings = part(this.root, "settings");
    this.prepared = false;
    this.limits = limits;
    this.root.addEventListener("click", (event) => this.#press(event));
    this.model.addEventListener("change", () => this.#act("model", { model: this.model.value }));
    this.#prepareMenu();
  }

  show(view) {
    const { lane, index, tone, take } = view;
    this.root.dataset.state = lane?.state ?? "idle";
    this.root.dataset.model = view.model;
    this.root.dataset.tone = tone;
    this.root.classList.toggle("full", view.full);
    this.root.setAttribute("aria-label", `Lane ${index + 1}: ${view.name}`);
    const byToken = this.tokens.show(view);
    this.#showHead(view);
    this.#showSettings(view);
    if (take !== this.take) this.stick.reset();
    this.take = take;
    const changed = this.answer.show(lane?.text ?? "");
    this.answer.hidden = byToken;
    this.body.setAttribute("aria-busy", String(lane?.state === "running"));
    setLabelOnly(this.body, `Answer of lane ${index + 1}`);
    this.#showNote(view);
    this.#showFoot(view);
    if (changed) this.stick.follow();
  }

  #showHead(view) {
    const { lane, index, models, model, info, modified, count, running, full, rate, settingsOpen, name, fork, xray } = view;
    this.#showModels(models, model, index);
    setText(part(this.root, "kind"), info ? (info.base ? "tuned" : "base") : "not served");
    this.dial.show(view);
    this.root.querySelector("proof-badge").show(info);
    const stop = this.#button("stop");
    stop.hidden = !running;
    setLabel(stop, `Stop lane ${index + 1}`);
    setLabel(this.#button("full"), full ? `Leave full screen of lane ${index + 1}` : `Full screen of lane ${index + 1}`);
    this.#button("full").setAttribute("aria-pressed", String(full));
    setLabel(this.#button("copy"), `Copy the answer of lane ${index + 1}`);
    if (this.#button("again")) {
      this.#button("again").hidden = running;
      setLabel(this.#button("again"), lane ? `Run lane ${index + 1} again` : `Run lane ${index + 1} alone`);
      setLabel(this.#button("settings"), `Lane settings of lane ${index + 1}${modified ? `, ${modified} modified` : ""}`);
      this.#button("settings").setAttribute("aria-expanded", String(settingsOpen));
      setLabel(this.#button("menu"), `More for lane ${index + 1}`);
      part(this.root, "modified").hidden = !modified;
      setText(part(this.root, "modified"), String(modified));
      this.#button("left").disabled = index === 0;
      this.#button("right").disabled = this.#button("swap").disabled = index === count - 1;
      this.#button("remove").disabled = count === 1;
      this.#button("sweep").hidden = !info?.base || Boolean(info.cannot?.strength);
      this.#button("sweep").disabled = count >= this.limits.lanes;
      this.#button("xray").hidden = xray || !lane?.text;
    }
    this.model.title = name;
    const list = !lane ? [{ name: "state", text: "not run yet" }] : xray ? xrayFacts(lane, this.tokens.from) : facts(lane, rate);
    if (lane?.prefix.length && !view.prefix) list.push({ name: "branch", text: `branched at token ${lane.prefix.length}`, title: "Up to there the answer was given; from there on the model wrote it." });
    if (lane) list.push(...this.tokens.facts(view));
    for (const { label, why } of view.impossible) list.push({ name: "cannot", text: `no ${label.toLowerCase()} here`, title: why, warn: true });
    if (view.prefix) list.push({ name: "prefix", text: `begins with ${view.prefix} given tokens`, press: "unprefix", title: "Press to begin freely" });
    if (modified) list.push({ name: "modified", text: `${modified} modified`, title: "Parameters of its own: see Lane settings" });
    if (fork) list.push({ name: "fork", text: fork });
    const key = JSON.stringify(list);
    if (key === this.factsKey) return;
    this.factsKey = key;
    part(this.root, "facts").replaceChildren(
      ...list.map(({ name, text, title: tip, warn, press }) => {
        const span = make(press ? "button" : "span", warn ? "fact warn" : "fact", text);
        span.dataset.fact = name;
        if (press) {
          span.type = "button";
          span.dataset.do = press;
        }
        if (tip) span.title = tip;
        return span;
      }),
    );
  }

  #showModels(models, chosen, index) {
    setLabelOnly(this.model, `Model of lane ${index + 1}`);
    const key = JSON.stringify([models.map(({ id, title, base }) => [id, title, base]), chosen]);
    if (key === this.modelsKey) return;
    this.modelsKey = key;
    const option = ({ id, title }) => Object.assign(make("option", "", title || id), { value: id });
    const group = (label, members) => {
      const element = Object.assign(make("optgroup"), { label });
      element.append(...members.map(option));
      return element;
    };
    const bases = models.filter((model) => !model.base);
    const tuned = models.filter((model) => model.base);
    const unknown = models.some((model) => model.id === chosen) ? [] : [option({ id: chosen })];
    this.model.replaceChildren(...unknown, ...(bases.length ? [group("Base models", bases)] : []), ...(tuned.length ? [group("Fine-tuned", tuned)] : []));
    this.model.value = chosen;
  }

  #showSettings({ settingsOpen, panel, overrides, info, index }) {
    if (!this.settings) return;
    this.settings.hidden = !settingsOpen;
    if (!settingsOpen) return;
    const controls = this.settings.querySelector("param-panel");
    if (!this.prepared) controls.prepare({ catalog: this.catalog, limits: this.limits, key: this.key, suffix: `, lane ${index + 1}` });
    this.prepared = true;
    controls.show({ panel, overrides, models: info ? [info] : [] });
  }

  #showNote({ note, lane, stale, xray }) {
    const words = note ?? (lane ? stale : IDLE[xray ? "xray" : "run"]);
    part(this.root, "note").hidden = !words;
    setText(part(this.root, "note"), words ?? "");
    const error = part(this.root, "error");
    error.hidden = !lane?.error;
    setText(error, lane?.error ? lane.error.message : "");
  }

  #showFoot({ lane, others, takes, take, index }) {
    part(this.root, "foot").hidden = !lane || (!lane.text && !lane.used && takes < 2);
    this.root.querySelector("used-details").show(lane, others, this.catalog);
    this.#button("copy").hidden = !lane?.text;
    part(this.root, "takes").hidden = takes < 2;
    setText(part(this.root, "take"), `${take + 1}/${takes}`);
    setLabel(this.#button("earlier"), `Earlier take of lane ${index + 1}`);
    setLabel(this.#button("later"), `Later take of lane ${index + 1}`);
    this.#button("earlier").disabled = take <= 0;
    this.#button("later").disabled = take >= takes - 1;
  }

  #prepareMenu() {
    const menu = part(this.root, "menu");
    if (!menu) return;
    menu.id = `lane-menu-${counter++}`;
    this.#button("menu").setAttribute("popovertarget", menu.id);
  }

  #button(name) {
    return this.root.querySelector(`[data-do="${name}"]`);
  }

  #press({ target }) {
    const button = target.closest("[data-do]");
    if (!button || button.dataset.do === "menu") return;
    if (button.dataset.do === "copy") this.#copy(button);
    else if (button.dataset.do === "widest") this.tokens.goWidest();
    else if (button.dataset.do === "hard") this.tokens.go(Number(button.dataset.at));
    else this.#act(button.dataset.do);
  }

  async #copy(button) {
    try {
      await navigator.clipboard.writeText(this.answer.text);
      button.replaceChildren(icon("check"));
      setTimeout(() => button.replaceChildren(icon("copy")), 1500);
    } catch {
      getSelection().selectAllChildren(this.answer); // no clipboard without HTTPS: Ctrl+C does it
      tell(this.root, "notice", { text: "The browser does not let the page copy. The text is selected: press Ctrl+C." });
    }
  }

  #act(name, detail = {}) {
    tell(this.root, "act", { name, key: this.key, ...detail });
  }
}

function setLabelOnly(element, label) {
  if (element.getAttribute("aria-label") !== label) element.setAttribute("aria-label", label);
}
