/** Draws kernels' weights small at the middle of their lines. */

import { heightAt } from "./curve.js";

const PIECE = 32; // kernels
const SHARES = [0.5, 0.38, 0.62, 0.27, 0.73, 0.18, 0.82];

export class Weights {
  #graph;
  #measures;
  #colours;

  constructor({ graph, measures, colours }) {
    this.#graph = graph;
    this.#measures = measures;
    this.#colours = colours;
  }

  /**
   * Draws the strongest first, where there is room; a piece at a time.
   *
   * @param {CanvasRenderingContext2D} context
   * @param {{k: number, x: number, y: number}} view as of a camera.
   * @param {number[]} edges
   * @param {number[]} inSight the points in sight as [left, right, top, bottom].
   * @param {"always"|"wanted"|"roomy"} when they are drawn: at any size of the drawing, at any but
   *   for many kernels, or only where there is room for the whole drawing.
   */
  *draw(context, view, edges, [left, right, top, bottom], when) {
    const graph = this.#graph;
    const wanted = when !== "roomy";
    const cell = Math.max(wanted ? 3 : 0, Math.min(9, Math.round(3.4 * view.k)));
    const most = { always: 120, wanted: 400, roomy: 160 }[when];
    if (cell < 3 || edges.length > most * 8) return;
    const taken = [];
    const first = [...edges].sort((a, b) => graph.strength[b] - graph.strength[a]).slice(0, most);
    for (const edge of first) {
      const weights = graph.weightsOf(edge);
      if (!weights) continue;
      if (!wanted && cell < 5 && weights.high * weights.wide === 1) continue;
      const wide = weights.wide * cell + 2;
      const high = weights.high * cell + 2;
      const a = graph.start[edge];
      const b = graph.end[edge];
      const x0 = graph.x[a] + this.#measures.half(a);
      const x1 = graph.x[b] - this.#measures.half(b);
      for (const share of SHARES) {
        const px = x0 + (x1 - x0) * share;
        const py = graph.y[a] + (graph.y[b] - graph.y[a]) * heightAt(share);
        if (px < left || px > right || py < top || py > bottom) continue;
        const x = (px - view.x) * view.k - wide / 2;
        const y = (py - view.y) * view.k - high / 2;
        const clear = taken.every(
          ([tx, ty, tw, th]) =>
            x > tx + tw + 2 || tx > x + wide + 2 || y > ty + th + 2 || ty > y + high + 2,
        );
        if (!clear || wide + 8 > (x1 - x0) * view.k) continue;
        taken.push([x, y, wide, high]);
        this.drawOne(context, weights, x, y, cell);
        if (taken.length % PIECE === 0) yield;
        break;
      }
    }
  }

  /** Draws one kernel, each weight a square of `cell` pixels, with a frame of one pixel. */
  drawOne(context, { high, wide, values }, x, y, cell) {
    context.fillStyle = this.#colours.get("ink-3");
    context.fillRect(x, y, wide * cell + 2, high * cell + 2);
    values.forEach((value, i) => {
      context.fillStyle = this.#colours.weight(value / 127);
      context.fillRect(x + 1 + (i % wide) * cell, y + 1 + Math.floor(i / wide) * cell, cell, cell);
    });
  }
}
