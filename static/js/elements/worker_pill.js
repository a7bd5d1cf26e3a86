// The state of connection and workers in two words, and who they are on a click.

import { make, part, setText } from "../lib/dom.js";
import { cacheWords, workerState } from "../lib/sentences.js";

class WorkerPill extends HTMLElement {
  show({ workers, connection, reason }) {
    const { text, tone } = workerState(workers, connection, reason);
    this.querySelector(".pill").dataset.tone = tone;
    setText(part(this, "text"), text);
    const list = part(this, "list");
    list.replaceChildren(make("p", "menu-title", "Workers"), ...this.#lines(workers, connection, reason));
  }

  #lines(workers, connection, reason) {
    if (connection !== "open") {
      return [make("p", "menu-text", reason || "The connection is interrupted. Runs go on at the server; the page catches up.")];
    }
    if (workers.length === 0) {
      return [make("p", "menu-text", "None is running. Runs wait in the queue. “make run” starts one.")];
    }
    return workers.map((worker) => {
      const line = make("p", "menu-text");
      line.append(make("b", "", worker.worker), ` on ${worker.host}${worker.device && `, ${worker.device}`}`, document.createElement("br"));
      const note = worker.ready ? "" : ` · ${worker.note || "getting ready"}`;
      line.append(make("small", "num", `${worker.running} of ${worker.slots} places taken, ${worker.waiting} waiting${note}`));
      const cache = cacheWords(worker);
      if (cache) line.append(document.createElement("br"), make("small", "num", cache));
      return line;
    });
  }
}

customElements.define("worker-pill", WorkerPill);
