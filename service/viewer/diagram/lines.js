/** Draws kernels and wires on a canvas. */

import { heightAt, traceCurve } from "./curve.js";
import { SIDES } from "./shown.js";

const WIDTHS = 6;
const SUBPIXEL = 0.35; // thinner lines are drawn so wide, and fainter
// In one path. The nearer the view the longer a line takes, up to 0.1 ms; and many lines that cross
// in one path take up to three times as long as in several.
const PIECE = 32;
const LOOKS = [...SIDES, "inhibit", "unknown", "excite"];

function* inPieces(lines) {
  for (let from = 0; from < lines.length; from += PIECE) yield lines.slice(from, from + PIECE);
}

export class Lines {
  #graph;
  #measures;
  #colours;

  constructor({ graph, measures, colours }) {
    this.#graph = graph;
    this.#measures = measures;
    this.#colours = colours;
  }

  /** Picks the lines that come into sight: into `seen`, as a camera says it, at its `k`. */
  inSight(lines, [left, right, top, bottom], k) {
    const { x, y, start, end } = this.#graph;
    const reach = this.#measures.line(1, k) / k / 2;
    return lines.filter((line) => {
      const a = start[line];
      const b = end[line];
      const x0 = x[a] + this.#measures.half(a);
      const x1 = x[b] - this.#measures.half(b);
      if (x1 < left - reach || x0 > right + reach) return false;
      // A line only rises or only falls: it is as high and as low as where it comes and goes.
      const wide = Math.max(1e-6, x1 - x0);
      const rise = y[b] - y[a];
      const y0 = y[a] + rise * heightAt((left - reach - x0) / wide);
      const y1 = y[a] + rise * heightAt((right + reach - x0) / wide);
      return Math.max(y0, y1) >= top - reach && Math.min(y0, y1) <= bottom + reach;
    });
  }

  /**
   * Strokes kernels, the weakest first, a piece at a time; `count`: how many are drawn with them.
   */
  *stroke(context, view, edges, count) {
    for (const look of this.#byLook(edges)) {
      for (const some of inPieces(look.edges)) {
        this.#strokeAlike(context, view, some, look, count);
        yield;
      }
    }
  }

  /** Sorts kernels by how they are drawn, with a `thickness` from 0 to 1. */
  #byLook(edges) {
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
        thickness: Math.floor(key / LOOKS.length) / (WIDTHS - 1),
        edges: some,
      }));
  }

  #strokeAlike(context, view, edges, { colour, thickness }, count) {
    const width = this.#measures.line(thickness, view.k);
    context.strokeStyle = this.#colours.get(colour);
    context.lineWidth = Math.max(SUBPIXEL, width);
    // Many lines together stay legible where each lets the others through.
    const crowd = Math.min(0.8, Math.max(0.15, 9 / Math.sqrt(count + 1)));
    context.globalAlpha = (crowd + (0.95 - crowd) * thickness ** 1.3) * Math.min(1, width / SUBPIXEL);
    context.beginPath();
    for (const edge of edges) this.trace(context, view, edge);
    context.stroke();
    context.globalAlpha = 1;
  }

  /** Strokes wires, a piece at a time. */
  *strokeWires(context, view, wires, colour) {
    context.strokeStyle = this.#colours.get(colour);
    context.lineWidth = Math.max(0.7, Math.min(2, view.k * 1.4));
    for (const some of inPieces(wires)) {
      context.beginPath();
      for (const wire of some) this.trace(context, view, wire);
      context.stroke();
      yield;
    }
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
