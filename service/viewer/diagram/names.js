/** Names above the bands; slanted where columns are too close for them. */

import { joins } from "./graph.js";
import { ROW } from "./measures.js";

export class Names {
  #bands;
  #apart;
  #colours;

  constructor({ graph, colours }) {
    this.#bands = graph.data.bands.filter((band) => !joins(band));
    const columns = [...new Set(this.#bands.map((band) => band.x))].sort((a, b) => a - b);
    this.#apart = Math.min(...columns.slice(1).map((x, i) => x - columns[i]));
    this.#colours = colours;
  }

  draw(context, camera) {
    const { k } = camera.view;
    const stage = camera.size;
    const size = Math.round(Math.max(10, Math.min(13, 11 * k + 4)));
    context.font = `${size}px ${this.#colours.font}`;
    context.textBaseline = "alphabetic";
    context.lineJoin = "round";
    const widths = this.#bands.map((band) => context.measureText(shortName(band)).width);
    const slanted = Math.max(0, ...widths) > this.#apart * k - 6;
    context.textAlign = slanted ? "left" : "center";
    this.#bands.forEach((band, number) => {
      const text = shortName(band);
      const [x, top] = camera.toPlace(band.x, band.top - ROW * 0.62);
      const [, bottom] = camera.toPlace(band.x, band.bottom + ROW * 0.62);
      const width = widths[number];
      if (bottom < 0 || top > stage.height || x < -width || x > stage.width + width) return;
      // The name stays in sight while its band does.
      const highest = (slanted ? width * 0.7 : 0) + size + 3;
      const y = Math.round(Math.max(top - 5, Math.min(highest, bottom - 4)));
      const reach = slanted ? [0, width * 0.75] : [width / 2, width / 2];
      const middle = Math.round(Math.max(reach[0] + 4, Math.min(stage.width - reach[1] - 4, x)));
      if (!slanted && Math.abs(middle - x) > width) return;
      context.save();
      context.translate(middle, y);
      if (slanted) context.rotate(-Math.PI / 4);
      context.strokeStyle = this.#colours.get("surface");
      context.lineWidth = 4;
      context.strokeText(text, 0, 0);
      context.fillStyle = this.#colours.get(band.unit ? "ink" : "ink-2");
      context.fillText(text, 0, 0);
      context.restore();
    });
  }
}

/** A band's name without what all names of a network share anyway. */
function shortName(band) {
  return band.name.replace(/^(features|layers|model|module|blocks)\.(?!\d+$)/, "");
}
