/** Kernels and wires on a canvas. */

import { traceCurve } from "./curve.js";
import { SIDES } from "./shown.js";

const WIDTHS = 6;
const SUBPIXEL = 0.35; // thinner lines are drawn so wide, and fainter
const LOOKS = [...SIDES, "inhibit", "unknown", "excite"];

export class Lines {
  #graph;
  #measures;
  #colours;

  constructor({ graph, measures, colours }) {
    this.#graph = graph;
    this.#measures = measures;
    this.#colours = colours;
  }

  /**
   * Kernels by how they are drawn, the weakest first.
   *
   * @returns {{colour: string, level: number, edges: number[]}[]} `level` from 0, thin, to 1.
   */
  byLook(edges) {
    const graph = this.#graph;
    const found = new Map();
    for (const e of edges) {
      const look = graph.twoSides ? graph.side[e] : graph.sign[e] + SIDES.length + 1;
      const width = Math.min(WIDTHS - 1, Math.floor(graph.strength[e] * WIDTHS));
      const key = width * LOOKS.length + look;
      if (!found.has(key)) found.set(key, []);
      found.get(key).push(e);
    }
    return [...found.entries()]
      .sort((a, b) => a[0] - b[0])
      .map(([key, some]) => ({
        colour: LOOKS[key % LOOKS.length],
        level: Math.floor(key / LOOKS.length) / (WIDTHS - 1),
        edges: some,
      }));
  }

  /** Strokes kernels that look alike; `count`: how many are drawn with them. */
  stroke(context, view, edges, { colour, level }, count) {
    const width = this.#measures.line(level, view.k);
    context.strokeStyle = this.#colours.get(colour);
    context.lineWidth = Math.max(SUBPIXEL, width);
    // Many lines together stay legible where each lets the others through.
    const crowd = Math.min(0.8, Math.max(0.15, 9 / Math.sqrt(count + 1)));
    context.globalAlpha = (crowd + (0.95 - crowd) * level ** 1.3) * Math.min(1, width / SUBPIXEL);
    context.beginPath();
    for (const edge of edges) this.trace(context, view, edge);
    context.stroke();
    context.globalAlpha = 1;
  }

  strokeWires(context, view, wires, colour) {
    context.strokeStyle = this.#colours.get(colour);
    context.lineWidth = Math.max(0.7, Math.min(2, view.k * 1.4));
    context.beginPath();
    for (const wire of wires) this.trace(context, view, wire);
    context.stroke();
  }

  /** Adds a line to a path. */
  trace(context, { k, x: cx, y: cy }, line) {
    const graph = this.#graph;
    const a = graph.start[line];
    const b = graph.end[line];
    traceCurve(
      context,
      (graph.x[a] + this.#measures.half(a) - cx) * k,
      (graph.y[a] - cy) * k,
      (graph.x[b] - this.#measures.half(b) - cx) * k,
      (graph.y[b] - cy) * k,
    );
  }
}
