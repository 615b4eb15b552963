/** Draws one view on a canvas of its own, piece by piece. */

/**
 * @import { Camera } from "./camera.js"
 * @import { Graph } from "./graph.js"
 * @import { Shown } from "./shown.js"
 */

import { ROW } from "./measures.js";
import { Pieces } from "./pieces.js";

const MARGIN = 0.2; // of the stage, drawn around it for panning
const NODES = 16; // in one piece

export class Layer {
  #graph;
  #shown;
  #parts;
  #context;
  #seen;
  #ratio;
  #pieces;

  /**
   * @param {object} of
   * @param {Graph} of.graph
   * @param {Shown} of.shown
   * @param {object} of.parts what draws bands, lines, nodes and weights.
   * @param {Camera} of.camera as it is now.
   * @param {boolean} of.roomy with a margin around the stage.
   */
  constructor({ graph, shown, parts, camera, roomy }) {
    const { width, height, ratio } = camera.size;
    const margin = roomy ? MARGIN : 0;
    this.#graph = graph;
    this.#shown = shown;
    this.#parts = parts;
    this.#ratio = ratio;
    this.roomy = roomy;
    this.view = { ...camera.view };
    // Whole pixels, so that a layer at rest is copied as it is and stays sharp.
    this.pad = [Math.round(width * margin * ratio), Math.round(height * margin * ratio)];
    this.canvas = document.createElement("canvas");
    this.canvas.width = Math.round(width * ratio) + 2 * this.pad[0];
    this.canvas.height = Math.round(height * ratio) + 2 * this.pad[1];
    this.#context = this.canvas.getContext("2d");
    this.#context.setTransform(
      ratio, 0, 0, ratio,
      (width / 2) * ratio + this.pad[0], (height / 2) * ratio + this.pad[1],
    );
    this.#seen = camera.seen(margin);
    this.#pieces = new Pieces(this.canvas, this.#draw());
  }

  /** Goes on until a time, as `performance.now()` tells it, and tells whether all is drawn. */
  go(until) {
    return this.#pieces.go(until);
  }

  *#draw() {
    const { bands, lines, weights } = this.#parts;
    const { edgeCount, start } = this.#graph;
    const context = this.#context;
    const edges = this.#inSight(0, edgeCount);
    const wires = this.#inSight(edgeCount, start.length);
    bands.draw(context, this.view);
    yield* lines.strokeWires(context, this.view, wires, "line-strong");
    yield* lines.stroke(context, this.view, edges, edges.length);
    yield* this.#drawNodes();
    const when = this.#shown.isolating ? "wanted" : "roomy";
    yield* weights.draw(context, this.view, edges, this.#seen, when);
  }

  #inSight(from, to) {
    const found = [];
    for (let line = from; line < to; line += 1) if (this.#shown.drawn(line)) found.push(line);
    return this.#parts.lines.inSight(found, this.#seen, this.view.k);
  }

  *#drawNodes() {
    const graph = this.#graph;
    const [left, right, top, bottom] = this.#seen;
    let count = 0;
    for (let node = 0; node < graph.nodeCount; node += 1) {
      const visibility = this.#shown.visibility(node);
      const x = graph.x[node];
      const y = graph.y[node];
      if (!visibility || x < left - ROW || x > right + ROW || y < top - ROW || y > bottom + ROW) continue;
      this.#context.globalAlpha = visibility === 1 ? 0.13 : 1;
      this.#parts.nodes.draw(this.#context, this.view, node, this.#ratio);
      count += 1;
      if (count % NODES === 0) yield;
    }
    this.#context.globalAlpha = 1;
  }
}
