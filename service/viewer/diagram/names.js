/** Draws names above the bands: slanted where columns are too close, and none on another. */

import { joins } from "./graph.js";
import { ROW } from "./measures.js";

const GAP = 2; // pixels between two names
const ABOVE = 0.8; // of the size of the font, over the line that it stands on
const BELOW = 0.25;
const SLANT = Math.SQRT1_2;

export class Names {
  #graph;
  #bands;
  #apart;
  #colours;
  #font = "";
  #widths = new Map();

  constructor({ graph, colours }) {
    this.#graph = graph;
    this.#bands = inOrder(graph.data.bands.filter((band) => !joins(band)));
    const columns = [...new Set(this.#bands.map((band) => band.x))].sort((a, b) => a - b);
    this.#apart = Math.min(...columns.slice(1).map((x, i) => x - columns[i]));
    this.#colours = colours;
  }

  /**
   * Draws the names for which there is room: those of an item first, then those at both ends. The
   * others lose their first parts where that makes room, or are not drawn.
   */
  draw(context, camera, item) {
    const { k } = camera.view;
    const size = Math.round(Math.max(10, Math.min(13, 11 * k + 4)));
    context.font = `${size}px ${this.#colours.font}`;
    context.textBaseline = "alphabetic";
    context.lineJoin = "round";
    const width = (text) => this.#width(context, text);
    const widest = Math.max(0, ...this.#bands.map((band) => width(shortName(band))));
    const slanted = widest > this.#apart * k - 6;
    context.textAlign = slanted ? "left" : "center";
    const pointed = this.#bandsOf(item);
    const taken = [];
    for (const band of new Set([...pointed, ...this.#bands])) {
      const all = shortName(band);
      for (const text of [all, ...endings(all)]) {
        const at = locate(band, { camera, width: width(text), size, slanted });
        if (!at) break;
        const box = boxOf(at, { width: width(text), size, slanted });
        if (taken.some((other) => touch(box, other))) continue;
        taken.push(box);
        this.#write(context, band, text, at, slanted);
        break;
      }
    }
  }

  #width(context, text) {
    if (context.font !== this.#font) {
      this.#font = context.font;
      this.#widths.clear();
    }
    if (!this.#widths.has(text)) this.#widths.set(text, context.measureText(text).width);
    return this.#widths.get(text);
  }

  /** Lists the bands that an item is of. */
  #bandsOf(item) {
    if (!item) return [];
    const graph = this.#graph;
    const { node, edge } = item;
    const ends = node === undefined ? [graph.end[edge], graph.data.edges.source[edge]] : [node];
    return [...new Set(ends.map((end) => graph.bandOf(end)))].filter((band) => !joins(band));
  }

  #write(context, band, text, [x, y], slanted) {
    context.save();
    context.translate(x, y);
    if (slanted) context.rotate(-Math.PI / 4);
    context.strokeStyle = this.#colours.get("surface");
    context.lineWidth = 4;
    context.strokeText(text, 0, 0);
    context.fillStyle = this.#colours.get(band.unit ? "ink" : "ink-2");
    context.fillText(text, 0, 0);
    context.restore();
  }
}

/** Puts the unit and both ends first, then the uppermost of each column, then what is below it. */
function inOrder(bands) {
  const left = Math.min(...bands.map((band) => band.x));
  const right = Math.max(...bands.map((band) => band.x));
  const outer = (band) => band.unit || band.x === left || band.x === right;
  const upper = (band) => bands.every((other) => other.x !== band.x || other.top >= band.top);
  const rank = (band) => (outer(band) ? 0 : upper(band) ? 1 : 2);
  return [...bands].sort((a, b) => rank(a) - rank(b) || a.x - b.x || a.top - b.top);
}

/** Leaves out of a band's name what all names of a network share anyway. */
function shortName(band) {
  return band.name.replace(/^(features|layers|model|module|blocks)\.(?!\d+$)/, "");
}

/** Lists the ends of a path, the longest first: "layer1.0.conv1" -> "…0.conv1", "…conv1". */
function endings(name) {
  const parts = name.split(".");
  const found = parts.slice(1).map((_, first) => parts.slice(first + 1).join("."));
  return found.filter((end) => /[a-z]/i.test(end)).map((end) => `…${end}`);
}

/**
 * Tells where a name of that width begins, or its middle where it is level; null: out of sight.
 *
 * @returns {[number, number]|null}
 */
function locate(band, { camera, width, size, slanted }) {
  const stage = camera.size;
  const [x, top] = camera.toStage(band.x, band.top - ROW * 0.62);
  const [, bottom] = camera.toStage(band.x, band.bottom + ROW * 0.62);
  if (bottom < 0 || top > stage.height || x < -width || x > stage.width + width) return null;
  // The name stays in sight while its band does.
  const highest = (slanted ? width * 0.7 : 0) + size + 3;
  const y = Math.round(Math.max(top - 5, Math.min(highest, bottom - 4)));
  const [before, after] = slanted ? [0, width * 0.75] : [width / 2, width / 2];
  const middle = Math.round(Math.max(before + 4, Math.min(stage.width - after - 4, x)));
  return !slanted && Math.abs(middle - x) > width ? null : [middle, y];
}

/**
 * Gives a name's box as [left, right, top, bottom], of the stage turned as the names are.
 *
 * @returns {[number, number, number, number]}
 */
function boxOf([x, y], { width, size, slanted }) {
  const [along, across] = slanted ? [(x - y) * SLANT, (x + y) * SLANT] : [x - width / 2, y];
  return [along, along + width, across - ABOVE * size, across + BELOW * size];
}

function touch([left, right, top, bottom], [left2, right2, top2, bottom2]) {
  return (
    left < right2 + GAP && left2 < right + GAP && top < bottom2 + GAP && top2 < bottom + GAP
  );
}
