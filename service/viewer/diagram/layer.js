/** The drawing at one view on a canvas of its own, drawn in as many goes as are allowed. */

import { ROW } from "./measures.js";

const MARGIN = 0.2; // of the stage, drawn around it for panning

export class Layer {
  #graph;
  #shown;
  #parts;
  #context;
  #seen;
  #ratio;
  #wires;
  #looks;
  #count;
  #look = 0;
  #from = 0;
  #under = false;
  #paused = false;

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
    const edges = this.#inSight(0, graph.edgeCount);
    this.#wires = this.#inSight(graph.edgeCount, graph.start.length);
    this.#looks = parts.lines.byLook(edges);
    this.#count = edges.length;
  }

  #inSight(from, to) {
    const { x, y, start, end } = this.#graph;
    const [left, right, top, bottom] = this.#seen;
    const found = [];
    for (let line = from; line < to; line += 1) {
      if (!this.#shown.drawn(line)) continue;
      if (x[end[line]] < left || x[start[line]] > right) continue;
      const y0 = y[start[line]];
      const y1 = y[end[line]];
      if (Math.max(y0, y1) >= top && Math.min(y0, y1) <= bottom) found.push(line);
    }
    return found;
  }

  /** Goes on by some `budget` kernels; whether it is whole. */
  go(budget) {
    const { bands, lines } = this.#parts;
    if (!this.#under) {
      bands.draw(this.#context, this.view);
      lines.strokeWires(this.#context, this.view, this.#wires, "line-strong");
      this.#under = true;
    }
    const left = this.#strokeSome(budget);
    if (this.#look < this.#looks.length) return false;
    if (!this.#paused) {
      this.#paused = true;
      if (budget - left > budget / 2) return false;
    }
    this.#drawNodes();
    const edges = this.#looks.flatMap((look) => look.edges);
    const when = this.#shown.isolating ? "wanted" : "roomy";
    this.#parts.weights.draw(this.#context, this.view, edges, this.#seen, when);
    return true;
  }

  /** What is left of the budget. */
  #strokeSome(budget) {
    let left = budget;
    while (this.#look < this.#looks.length && left > 0) {
      const look = this.#looks[this.#look];
      const some = look.edges.slice(this.#from, this.#from + Math.min(left, 256));
      this.#parts.lines.stroke(this.#context, this.view, some, look, this.#count);
      left -= some.length;
      this.#from += some.length;
      if (this.#from >= look.edges.length) {
        this.#look += 1;
        this.#from = 0;
      }
    }
    return left;
  }

  #drawNodes() {
    const graph = this.#graph;
    const [left, right, top, bottom] = this.#seen;
    for (let node = 0; node < graph.nodeCount; node += 1) {
      const level = this.#shown.level(node);
      const x = graph.x[node];
      const y = graph.y[node];
      if (!level || x < left - ROW || x > right + ROW || y < top - ROW || y > bottom + ROW) continue;
      this.#context.globalAlpha = level === 1 ? 0.13 : 1;
      this.#parts.nodes.draw(this.#context, this.view, node, this.#ratio);
    }
    this.#context.globalAlpha = 1;
  }
}
