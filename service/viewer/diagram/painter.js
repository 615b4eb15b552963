/** Shows, frame by frame, a layer moved to where the view is, and what is on it. */

/**
 * @import { Camera } from "./camera.js"
 * @import { Cursor } from "./cursor.js"
 * @import { Graph } from "./graph.js"
 * @import { Shown } from "./shown.js"
 */

import { h } from "../dom.js";
import { Layer } from "./layer.js";
import { Pieces } from "./pieces.js";

const SETTLE_MS = 110;
const FRAME_MS = 14; // of drawing, in one frame

export class Painter {
  #graph;
  #shown;
  #parts;
  #camera;
  #cursor;
  #onBusy;
  #busy = false;
  #edges = h("canvas", { class: "ca-layer", "aria-hidden": "true" });
  #top = h("canvas", { class: "ca-layer", "aria-hidden": "true" });
  #whole = null;
  #building = null;
  #over = null;
  #outdated = false;
  #late = false; // an image came while a layer was drawn
  #stale = false; // the view has moved, or the cursor
  #quick = false; // the last layer took a single frame
  #frame = 0;
  #settle = 0;

  /**
   * @param {object} of
   * @param {Graph} of.graph
   * @param {Shown} of.shown
   * @param {Record<string, any>} of.parts what draws bands, lines, nodes, weights, names and the overlay.
   * @param {Camera} of.camera
   * @param {Cursor} of.cursor
   * @param {(busy: boolean) => void} of.onBusy something is still to be drawn, or nothing any more.
   */
  constructor({ graph, shown, parts, camera, cursor, onBusy }) {
    this.#graph = graph;
    this.#shown = shown;
    this.#parts = parts;
    this.#camera = camera;
    this.#cursor = cursor;
    this.#onBusy = onBusy;
    /** To stand in the stage, one on the other. */
    this.elements = [this.#edges, this.#top];
  }

  /** Draws anew, over as many frames as it needs, since something else is to be seen. */
  redraw() {
    this.#rest(0);
    this.#building = null;
    this.#outdated = true;
    this.refresh();
  }

  /** Draws one more image, which has come, with the next layer. */
  gained() {
    if (this.#building) this.#late = true;
    else this.redraw();
  }

  /** Moves what is drawn along with the view, and draws anew once that rests. */
  moved() {
    if (this.#quick) {
      this.redraw();
      return;
    }
    this.#building = null;
    this.#rest(setTimeout(() => this.redraw(), SETTLE_MS));
    this.refresh();
  }

  /** Takes over another size of the stage. */
  resized() {
    const { width, height, ratio } = this.#camera.size;
    for (const canvas of this.elements) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    this.redraw();
  }

  /** Keeps the layer, and draws anew what the cursor is on. */
  refresh() {
    this.#stale = true;
    this.#ask();
  }

  #ask() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#tick();
      this.#tell();
    });
    this.#tell();
  }

  /** Sets the timer after which the view counts as at rest; 0: none runs. */
  #rest(timer) {
    clearTimeout(this.#settle);
    this.#settle = timer;
  }

  #tell() {
    const busy = this.#frame !== 0 || this.#settle !== 0;
    if (busy === this.#busy) return;
    this.#busy = busy;
    this.#onBusy(busy);
  }

  stop() {
    cancelAnimationFrame(this.#frame);
    this.#rest(0);
    this.#frame = -1; // asked for, and never to come
  }

  #tick() {
    const until = performance.now() + FRAME_MS;
    if (this.#stale) this.#beginTop();
    if (this.#over?.go(until)) this.#over = null;
    if (this.#outdated) this.#begin(!this.#quick);
    const time = performance.now() < until;
    const finished = time && this.#building !== null && this.#build(until);
    if (this.#stale || finished || !this.#whole) this.#show();
    this.#stale = false;
    if (this.#late && !this.#building) this.redraw();
    if (this.#building || this.#over) this.#ask();
  }

  #begin(roomy) {
    this.#outdated = false;
    this.#late = false;
    this.#building = new Layer({
      graph: this.#graph,
      shown: this.#shown,
      parts: this.#parts,
      camera: this.#camera,
      roomy,
    });
    this.#quick = true;
  }

  /** Goes on with the layer, and tells whether all of it is drawn. */
  #build(until) {
    if (this.#building.go(until)) {
      this.#whole = this.#building;
      this.#building = null;
      return true;
    }
    this.#quick = false;
    // What takes several frames is panned before it is drawn anew, and needs the margin for that.
    if (!this.#building.roomy) this.#begin(true);
    return false;
  }

  /** Shows the drawn layer, moved to where the view is now. */
  #show() {
    const { width, height, ratio } = this.#camera.size;
    const view = this.#camera.view;
    const context = this.#edges.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.#edges.width, this.#edges.height);
    // A layer that is still being drawn is shown as far as it is, unless there is an older one.
    const layer = this.#whole ?? this.#building;
    if (layer) {
      const { canvas } = layer;
      const scale = view.k / layer.view.k;
      const shift = (axis, length, pad) => {
        const half = (length / 2) * ratio;
        return half + (layer.view[axis] - view[axis]) * view.k * ratio - (half + pad) * scale;
      };
      const x = shift("x", width, layer.pad[0]);
      const y = shift("y", height, layer.pad[1]);
      context.drawImage(canvas, x, y, canvas.width * scale, canvas.height * scale);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.#parts.names.draw(context, this.#camera, this.#cursor.item);
  }

  #beginTop() {
    const { width, height, ratio } = this.#camera.size;
    const context = this.#top.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.#top.width, this.#top.height);
    this.#edges.classList.toggle("ca-dim", Boolean(this.#cursor.hovered));
    context.setTransform(ratio, 0, 0, ratio, (width / 2) * ratio, (height / 2) * ratio);
    const { item, hovered, marked } = this.#cursor;
    const pieces = this.#parts.overlay.draw(context, this.#camera, { item, hovered, marked });
    this.#over = new Pieces(this.#top, pieces);
  }
}
