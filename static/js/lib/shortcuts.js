// Does on the bench what the keys say.

import { commandOf, isTyping } from "./keyboard.js";

export class Shortcuts {
  constructor(bench) {
    this.bench = bench;
    document.addEventListener("keydown", (event) => this.#press(event));
  }

  #press(event) {
    const command = commandOf(event, isTyping(event.target));
    if (!command || document.querySelector("dialog[open]")) return;
    if (command === "stop") return this.#escape();
    event.preventDefault();
    this.#do(command);
  }

  #do(command) {
    const { bench } = this;
    const names = {
      run: () => bench.run(),
      save: () => bench.bar?.save(),
      search: () => this.#search(),
      library: () => document.getElementById("drawer-left")?.toggle(),
      shortcuts: () => document.getElementById("shortcuts").showModal(),
      prompt: () => bench.editor.focusPrompt(),
      fork: () => bench.toggleMarks(),
      tokens: () => bench.toggleTokens(),
      next: () => bench.goRemarkable(1),
      previous: () => bench.goRemarkable(-1),
    };
    if (command.startsWith("lane:")) bench.strip.go(Number(command.slice(5)) - 1);
    else names[command]();
  }

  /** Closes what lies on top first; only then does it stop the run. */
  #escape() {
    const { bench } = this;
    if (bench.tokens.card.isOpen) return bench.tokens.card.close();
    if (document.querySelector("[popover]:popover-open")) return;
    if (bench.session.running) bench.stop();
    else if (bench.screen.full) bench.lanes.do({ name: "full", key: bench.screen.full });
  }

  #search() {
    const drawer = document.getElementById("drawer-left");
    if (!drawer) return;
    const field = drawer.querySelector("[data-search]");
    if (!field.checkVisibility()) drawer.toggle();
    field.focus();
  }
}
