// Keeps a scrolling box at its end while text arrives, unless the reader has scrolled up.

const NEAR = 24; // pixels from the end that still count as the end

export class StickToEnd {
  constructor(box) {
    this.box = box;
    this.stuck = true;
    this.last = 0;
    box.addEventListener("scroll", () => this.#scrolled(), { passive: true });
  }

  /** Call after text was added. */
  follow() {
    if (this.stuck) this.box.scrollTop = this.last = this.box.scrollHeight - this.box.clientHeight;
  }

  reset() {
    this.stuck = true;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.box;
    if (scrollHeight - clientHeight - scrollTop <= NEAR) this.stuck = true;
    else if (scrollTop < this.last) this.stuck = false;
    this.last = scrollTop;
  }
}
