/** Follows mouse, pen and fingers on the stage: they move the camera, hover and pick. */

/** @import { Camera } from "./camera.js" */

const STILL = 3; // pixels that a click may move

export class Pointer {
  #stage;
  #camera;
  #find;
  #onHover;
  #onPick;
  #onlyFocused;
  #held = new Map();

  /**
   * @param {object} of
   * @param {HTMLElement} of.stage
   * @param {Camera} of.camera
   * @param {(x: number, y: number) => object|null} of.find the item at a position.
   * @param {(item: object|null, x?: number, y?: number) => void} of.onHover
   * @param {(item: object|null) => void} of.onPick a click on it, or on nothing.
   * @param {boolean} of.onlyFocused the wheel zooms only where the stage has the focus.
   * @param {AbortSignal} of.signal until then it listens.
   */
  constructor({ stage, camera, find, onHover, onPick, onlyFocused, signal }) {
    this.#stage = stage;
    this.#camera = camera;
    this.#find = find;
    this.#onHover = onHover;
    this.#onPick = onPick;
    this.#onlyFocused = onlyFocused;
    const on = (type, action) =>
      stage.addEventListener(type, action, { signal, passive: type !== "wheel" });
    on("pointerdown", (event) => this.#down(event));
    on("pointermove", (event) => this.#move(event));
    on("pointerup", (event) => this.#up(event));
    on("pointercancel", (event) => this.#held.delete(event.pointerId));
    on("pointerleave", () => this.#onHover(null));
    on("wheel", (event) => this.#wheel(event));
    on("dblclick", (event) => {
      const [x, y] = this.#at(event);
      if (!this.#find(x, y)) this.#camera.zoomBy(1.8, x, y);
    });
  }

  #at(event) {
    const box = this.#stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #down(event) {
    if (event.button || event.target.closest(".ca-chosen")) return;
    const [x, y] = this.#at(event);
    this.#held.set(event.pointerId, { x, y, far: 0 });
    this.#stage.setPointerCapture(event.pointerId);
  }

  #move(event) {
    const [x, y] = this.#at(event);
    const held = this.#held.get(event.pointerId);
    if (!held) {
      if (event.pointerType !== "touch") this.#onHover(this.#find(x, y), x, y);
      return;
    }
    const other = [...this.#held.values()].find((one) => one !== held);
    held.far += Math.hypot(x - held.x, y - held.y);
    if (other) {
      const before = Math.hypot(held.x - other.x, held.y - other.y);
      const after = Math.hypot(x - other.x, y - other.y);
      this.#camera.zoomBy(after / Math.max(1, before), (x + other.x) / 2, (y + other.y) / 2);
    } else if (held.far > STILL) {
      this.#onHover(null);
      this.#camera.panBy(x - held.x, y - held.y);
    }
    held.x = x;
    held.y = y;
  }

  #up(event) {
    const held = this.#held.get(event.pointerId);
    this.#held.delete(event.pointerId);
    if (!held || held.far > STILL) return;
    const [x, y] = this.#at(event);
    const item = this.#find(x, y);
    if (event.pointerType === "touch") this.#onHover(item, x, y);
    this.#onPick(item);
  }

  #wheel(event) {
    const stays = this.#onlyFocused && !event.ctrlKey && !event.metaKey;
    if (stays && document.activeElement !== this.#stage) return;
    event.preventDefault();
    const [x, y] = this.#at(event);
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.#camera.zoomBy(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0016)), x, y);
  }
}
