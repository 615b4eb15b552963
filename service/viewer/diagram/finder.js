/** Finds what of the drawing lies at a position on the stage. */

import { heightAt, slopeAt } from "./curve.js";

const NODE_SLACK = 3; // pixels
const EDGE_SLACK = 5;

export class Finder {
  #graph;
  #shown;
  #measures;
  #camera;

  constructor({ graph, shown, measures, camera }) {
    this.#graph = graph;
    this.#shown = shown;
    this.#measures = measures;
    this.#camera = camera;
  }

  /** Finds the node at a position, or else the nearest kernel within a few pixels, or null. */
  find(sx, sy) {
    const [x, y] = this.#camera.toPoint(sx, sy);
    return this.#node(x, y) ?? this.#edge(x, y);
  }

  #node(x, y) {
    const graph = this.#graph;
    const slack = NODE_SLACK / this.#camera.view.k;
    for (let node = 0; node < graph.nodeCount; node += 1) {
      if (Math.abs(graph.x[node] - x) > this.#measures.half(node) + slack) continue;
      if (Math.abs(graph.y[node] - y) > this.#measures.size(node) / 2 + slack) continue;
      if (this.#shown.visibility(node)) return { node };
    }
    return null;
  }

  #edge(x, y) {
    const graph = this.#graph;
    let best = null;
    let nearest = EDGE_SLACK / this.#camera.view.k;
    for (let edge = 0; edge < graph.edgeCount; edge += 1) {
      if (!this.#shown.drawn(edge)) continue;
      const a = graph.start[edge];
      const b = graph.end[edge];
      const x0 = graph.x[a];
      const x1 = graph.x[b];
      if (x < x0 || x > x1) continue;
      const left = x0 + this.#measures.half(a);
      const share = (x - left) / Math.max(1e-6, x1 - this.#measures.half(b) - left);
      const rise = graph.y[b] - graph.y[a];
      const off = Math.abs(graph.y[a] + rise * heightAt(share) - y);
      if (off > nearest * 12) continue;
      const slope = (slopeAt(share) * rise) / Math.max(1e-6, x1 - x0);
      const distance = off / Math.hypot(1, slope);
      if (distance < nearest) {
        nearest = distance;
        best = { edge };
      }
    }
    return best;
  }
}
