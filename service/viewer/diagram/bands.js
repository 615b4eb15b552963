/** Draws what lies under everything: a strip for each convolution, brackets of concatenations. */

import { joins } from "./graph.js";
import { ROW } from "./measures.js";

export class Bands {
  #strips;
  #brackets;
  #measures;
  #colours;

  constructor({ graph, measures, colours }) {
    const { bands } = graph.data;
    this.#strips = bands.filter((band) => !joins(band));
    this.#brackets = concatenations(bands);
    this.#measures = measures;
    this.#colours = colours;
  }

  draw(context, { k, x: cx, y: cy }) {
    const { doubled } = this.#measures;
    const wide = ROW * (doubled ? 1.9 : 1.05) * k;
    context.fillStyle = this.#colours.get("sunken");
    for (const band of this.#strips) {
      const x = (band.x - cx) * k;
      const top = (band.top - ROW * 0.62 - cy) * k;
      const bottom = (band.bottom + ROW * 0.62 - cy) * k;
      context.beginPath();
      context.roundRect(x - wide / 2, top, wide, bottom - top, Math.min(8, 5 * k));
      context.fill();
    }
    context.strokeStyle = this.#colours.get("ink-3");
    context.lineWidth = Math.max(1, k);
    const tick = Math.max(3, 5 * k);
    for (const bracket of this.#brackets) {
      const x = (bracket.x + ROW * (doubled ? 1.15 : 0.72) - cx) * k;
      const top = (bracket.top - ROW * 0.5 - cy) * k;
      const bottom = (bracket.bottom + ROW * 0.5 - cy) * k;
      context.beginPath();
      context.moveTo(x - tick, top);
      context.lineTo(x, top);
      context.lineTo(x, bottom);
      context.lineTo(x - tick, bottom);
      context.stroke();
    }
  }
}

/** Finds bands of one column whose channels lie side by side in the input of a later one. */
function concatenations(bands) {
  const byName = new Map(bands.map((band) => [band.name, band]));
  const found = new Map();
  for (const band of bands) {
    const parts = band.concatenated.map((name) => byName.get(name)).filter(Boolean);
    if (parts.length < 2 || parts.some((part) => part.x !== parts[0].x)) continue;
    found.set(band.concatenated.join(), {
      x: parts[0].x,
      top: Math.min(...parts.map((part) => part.top)),
      bottom: Math.max(...parts.map((part) => part.bottom)),
    });
  }
  return [...found.values()];
}
