/** Tells which part of the drawing lies where on the stage. */

const LEAST = 0.01;
const MOST = 12;
const FITTED = 2.2; // pixels a point at most where all is shown
/** Pixels above and below all of the drawing: names stand above it. */
const HEAD = 46;
const FOOT = 6;
const SIDE = 16; // pixels beside it: letters of the image's channels stand there

/** Points are of the drawing, positions are pixels from the stage's upper left corner. */
export class Camera {
  #extent;
  #onMove;
  #view = { k: 1, x: 0, y: 0 };
  #size = { width: 0, height: 0, ratio: 1 };
  #fitted = true;

  /**
   * @param {{width: number, height: number}} extent of the drawing, in points.
   * @param {() => void} onMove the reader moved it.
   */
  constructor({ width, height }, onMove) {
    this.#extent = { width, height };
    this.#onMove = onMove;
  }

  /** Gives the view: `k` pixels a point, and the point in the middle. */
  get view() {
    return this.#view;
  }

  /**
   * Gives the stage's size in pixels of the page; `ratio`: how many of the screen's one of them is
   * wide.
   */
  get size() {
    return this.#size;
  }

  /** Writes the view as a state holds it. */
  get text() {
    const round = (value) => Number(value.toPrecision(5));
    return [this.#view.k, this.#view.x, this.#view.y].map(round).join(",");
  }

  /** Takes the stage's size, and tells whether it is another one. */
  resize(size) {
    const old = this.#size;
    if (old.width === size.width && old.height === size.height && old.ratio === size.ratio) {
      return false;
    }
    this.#size = size;
    if (this.#fitted) this.#fit();
    return true;
  }

  /** Shows a view that was kept, or all of the drawing, as large as fits. */
  show(view) {
    this.#fitted = !view;
    if (view) this.#view = view;
    else this.#fit();
  }

  #fit() {
    const { width, height } = this.#size;
    const across = (width - 2 * SIDE) / Math.max(1, this.#extent.width);
    const down = (height - HEAD - FOOT) / Math.max(1, this.#extent.height);
    const k = Math.max(Math.min(across, down, FITTED), 0.001);
    const y = this.#extent.height / 2 - (HEAD - FOOT) / 2 / k;
    this.#view = { k, x: this.#extent.width / 2, y };
  }

  /** Zooms in or out; what lies at a position stays there. */
  zoomBy(factor, sx = this.#size.width / 2, sy = this.#size.height / 2) {
    const [x, y] = this.toPoint(sx, sy);
    const k = Math.min(MOST, Math.max(LEAST, this.#view.k * factor));
    this.#move(k, x - (sx - this.#size.width / 2) / k, y - (sy - this.#size.height / 2) / k);
  }

  /** Moves the drawing along by that many pixels. */
  panBy(dx, dy) {
    const { k, x, y } = this.#view;
    this.#move(k, x - dx / k, y - dy / k);
  }

  /** Brings a point into the middle. */
  centre(x, y) {
    this.#move(this.#view.k, x, y);
  }

  #move(k, x, y) {
    this.#fitted = false;
    this.#view = {
      k,
      x: Math.min(this.#extent.width, Math.max(0, x)),
      y: Math.min(this.#extent.height, Math.max(0, y)),
    };
    this.#onMove();
  }

  /**
   * Gives the room for names where the drawing is shown whole at this size, in pixels of it as
   * [left, right, top].
   */
  get room() {
    const { k } = this.#view;
    const free = (length, extent) => Math.max(0, (length - extent * k) / 2);
    const beside = SIDE + free(this.#size.width - 2 * SIDE, this.#extent.width);
    const above = HEAD + free(this.#size.height - HEAD - FOOT, this.#extent.height);
    return [-beside, this.#extent.width * k + beside, -above];
  }

  toStage(x, y) {
    const { k, x: cx, y: cy } = this.#view;
    return [(x - cx) * k + this.#size.width / 2, (y - cy) * k + this.#size.height / 2];
  }

  toPoint(sx, sy) {
    const { k, x, y } = this.#view;
    return [(sx - this.#size.width / 2) / k + x, (sy - this.#size.height / 2) / k + y];
  }

  /**
   * Gives the points in sight as [left, right, top, bottom], with a `margin` in shares of the
   * stage.
   */
  seen(margin = 0) {
    const { k, x, y } = this.#view;
    const across = (this.#size.width * (0.5 + margin)) / k;
    const down = (this.#size.height * (0.5 + margin)) / k;
    return [x - across, x + across, y - down, y + down];
  }
}
