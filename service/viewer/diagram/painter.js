/** Frame by frame, what stands on the stage: a layer, moved to where the view is, and what is on it. */

import { h } from "../dom.js";
import { Layer } from "./layer.js";

const SETTLE_MS = 110;
const FRAME_MS = 14; // of drawing, in one frame

export class Painter {
  #graph;
  #shown;
  #parts;
  #camera;
  #cursor;
  #edges = h("canvas", { class: "ca-layer", "aria-hidden": "true" });
  #top = h("canvas", { class: "ca-layer", "aria-hidden": "true" });
  #glance = document.createElement("canvas").getContext("2d");
  #whole = null;
  #building = null;
  #outdated = false;
  #budget = 1000;
  #frame = 0;
  #settle = 0;

  /** @param {object} of `parts`: what draws bands, lines, nodes, weights, names and the overlay. */
  constructor({ graph, shown, parts, camera, cursor }) {
    this.#graph = graph;
    this.#shown = shown;
    this.#parts = parts;
    this.#camera = camera;
    this.#cursor = cursor;
    /** To stand in the stage, one on the other. */
    this.elements = [this.#edges, this.#top];
  }

  /** Something else is to be seen: draw it anew, over as many frames as it needs. */
  redraw() {
    clearTimeout(this.#settle);
    this.#building = null;
    this.#outdated = true;
    this.refresh();
  }

  /** The view moves: show what is drawn, moved along, and draw anew once it rests. */
  moved() {
    if (this.#shown.work <= this.#budget) {
      this.redraw();
      return;
    }
    this.#building = null;
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => this.redraw(), SETTLE_MS);
    this.refresh();
  }

  /** The stage has another size. */
  resized() {
    const { width, height, ratio } = this.#camera.size;
    for (const canvas of this.elements) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    this.redraw();
  }

  /** The layer stays, what the cursor is on does not. */
  refresh() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#tick();
    });
  }

  stop() {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#settle);
    this.#frame = -1; // asked for, and never to come
  }

  #tick() {
    if (this.#outdated) {
      this.#outdated = false;
      this.#building = new Layer({
        graph: this.#graph,
        shown: this.#shown,
        parts: this.#parts,
        camera: this.#camera,
        roomy: this.#shown.work > this.#budget,
      });
    }
    if (this.#building) this.#build();
    this.#show();
    this.#showTop();
    if (this.#building) this.refresh();
  }

  #build() {
    const before = performance.now();
    const done = this.#building.go(this.#budget);
    // Where no GPU draws, lines are only noted down until the layer is looked at, and then
    // all drawn at once: look at it now, to spread that over frames and to know what it costs.
    this.#glance.drawImage(this.#building.canvas, 0, 0, 1, 1, 0, 0, 1, 1);
    const took = performance.now() - before;
    if (took > FRAME_MS) this.#budget *= Math.max(0.3, FRAME_MS / took);
    else if (took < FRAME_MS / 2) this.#budget *= 1.3;
    this.#budget = Math.round(Math.min(4000, Math.max(150, this.#budget)));
    if (done) {
      this.#whole = this.#building;
      this.#building = null;
    }
  }

  /** The drawn layer, moved to where the view is now. */
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
      const place = (axis, length, pad) => {
        const half = (length / 2) * ratio;
        return half + (layer.view[axis] - view[axis]) * view.k * ratio - (half + pad) * scale;
      };
      const x = place("x", width, layer.pad[0]);
      const y = place("y", height, layer.pad[1]);
      context.drawImage(canvas, x, y, canvas.width * scale, canvas.height * scale);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.#parts.names.draw(context, this.#camera, this.#cursor.item);
  }

  #showTop() {
    const { width, height, ratio } = this.#camera.size;
    const context = this.#top.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.#top.width, this.#top.height);
    this.#edges.classList.toggle("ca-dim", Boolean(this.#cursor.hovered));
    context.setTransform(ratio, 0, 0, ratio, (width / 2) * ratio, (height / 2) * ratio);
    this.#parts.overlay.draw(context, this.#camera, this.#cursor);
  }
}
