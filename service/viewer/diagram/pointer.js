/** Follows mouse, pen and fingers on the stage: they move the camera, hover and pick. */

/** @import { Camera } from "./camera.js" */

const STILL = 3; // pixels that a click may move

/** Tells whether an event is of the card, or of what says what is isolated, and not of the drawing. */
const onPaper = (event) => event.target.closest(".ca-chosen, .ca-card") !== null;

export class Pointer {
  #stage;
  #camera;
  #find;
  #onHover;
  #onCard;
  #onPick;
  #onlyFocused;
  #held = new Map();

  /**
   * @param {object} of
   * @param {HTMLElement} of.stage
   * @param {Camera} of.camera
   * @param {(x: number, y: number) => object|null} of.find the item at a position.
   * @param {(item: object|null, how?: {now: boolean}) => void} of.onHover
   * @param {(item: object|null) => void} of.onCard the pointer is on the card, over that item.
   * @param {(item: object|null) => void} of.onPick a click on it, or on nothing.
   * @param {boolean} of.onlyFocused the wheel zooms only where the stage has the focus.
   * @param {AbortSignal} of.signal until then it listens.
   */
  constructor({ stage, camera, find, onHover, onCard, onPick, onlyFocused, signal }) {
    this.#stage = stage;
    this.#camera = camera;
    this.#find = find;
    this.#onHover = onHover;
    this.#onCard = onCard;
    this.#onPick = onPick;
    this.#onlyFocused = onlyFocused;
    const on = (type, action) =>
      stage.addEventListener(type, action, { signal, passive: type !== "wheel" });
    on("pointerdown", (event) => this.#down(event));
    on("pointermove", (event) => this.#move(event));
    on("pointerup", (event) => this.#up(event));
    on("pointercancel", (event) => this.#held.delete(event.pointerId));
    on("pointerleave", () => this.#onHover(null, { now: true }));
    on("wheel", (event) => this.#wheel(event));
    on("dblclick", (event) => {
      const [x, y] = this.#at(event);
      if (!onPaper(event) && !this.#find(x, y)) this.#camera.zoomBy(1.8, x, y);
    });
  }

  #at(event) {
    const box = this.#stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #down(event) {
    if (event.button || event.target.closest(".ca-chosen, a")) return;
    const [x, y] = this.#at(event);
    // From the card, too, the drawing is moved; what lies under it is not picked.
    this.#held.set(event.pointerId, { x, y, far: 0, picks: !onPaper(event) });
    this.#stage.setPointerCapture(event.pointerId);
  }

  #move(event) {
    const [x, y] = this.#at(event);
    const held = this.#held.get(event.pointerId);
    if (!held) {
      if (event.target.closest("a")) this.#onCard(null);
      else if (event.target.closest(".ca-card")) this.#onCard(this.#find(x, y));
      else if (event.pointerType !== "touch") this.#onHover(this.#find(x, y));
      return;
    }
    const other = [...this.#held.values()].find((one) => one !== held);
    held.far += Math.hypot(x - held.x, y - held.y);
    if (other) {
      const before = Math.hypot(held.x - other.x, held.y - other.y);
      const after = Math.hypot(x - other.x, y - other.y);
      this.#camera.zoomBy(after / Math.max(1, before), (x + other.x) / 2, (y + other.y) / 2);
    } else if (held.far > STILL) {
      this.#onHover(null, { now: true });
      this.#camera.panBy(x - held.x, y - held.y);
    }
    held.x = x;
    held.y = y;
  }

  #up(event) {
    const held = this.#held.get(event.pointerId);
    this.#held.delete(event.pointerId);
    if (!held?.picks || held.far > STILL) return;
    const [x, y] = this.#at(event);
    const item = this.#find(x, y);
    if (event.pointerType === "touch") this.#onHover(item, { now: true });
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
