/** Draws names level above their bands, with how many of their kernels are drawn. */

import { joins } from "./graph.js";
import { ROW } from "./measures.js";
import { broken, endings } from "./name_forms.js";

const GAP = 2; // pixels between two names
const EDGE = 4; // pixels to the edge of the stage
const OVER = 6; // pixels from a band up to its name
const LINE = 1.15; // of the size of the font, from one line to the next
const ABOVE = 0.8; // of the size of the font, over the line that it stands on
const BELOW = 0.25;
const STRIP = 0.62; // rows that a band reaches beyond the middle of its last node
const HIGHEST = 10; // lines that a name is raised at most, on a leader, past names beside it

/**
 * Holds where a band's name stands: by how many pixels its last line is raised over the band, and
 * moved aside.
 *
 * @typedef {{band: any, lines: string[], counted: boolean, half: number, raised: number, aside: number}} Name
 */

export class Names {
  #graph;
  #bands;
  #apart;
  #colours;
  #shown;
  #measures;
  #font = "";
  #widths = new Map();
  #known = "";
  /** @type {Name[]} */
  #names = [];

  constructor({ graph, colours, shown, measures }) {
    this.#graph = graph;
    this.#bands = inOrder(graph.data.bands.filter((band) => !joins(band)));
    const columns = [...new Set(this.#bands.map((band) => band.x))].sort((a, b) => a - b);
    this.#apart = Math.min(...columns.slice(1).map((x, i) => x - columns[i]));
    this.#colours = colours;
    this.#shown = shown;
    this.#measures = measures;
  }

  /**
   * Draws the names for which there is room: those of an item first, then those at both ends. The
   * others are broken at their dots, raised, lose their count or their first parts where that makes
   * room, or are not drawn.
   */
  draw(context, camera, item) {
    const { k } = camera.view;
    const size = Math.round(Math.max(10, Math.min(13, 11 * k + 4)));
    context.font = `${size}px ${this.#colours.font}`;
    context.textBaseline = "alphabetic";
    context.textAlign = "center";
    context.lineJoin = "round";
    const pointed = this.#bandsOf(item);
    const counts = this.#bands.map((band) => this.#shown.ofBand(band));
    const key = [k, size, camera.size.width, camera.size.height, this.#measures.doubled, this.#shown.level, ...counts]
      .concat(pointed.map((band) => band.name))
      .join();
    if (key !== this.#known) {
      this.#known = key;
      this.#names = this.#place(context, camera, size, new Set([...pointed, ...this.#bands]));
    }
    const taken = [];
    for (const name of this.#names) {
      const at = locate(name, camera, size);
      if (!at) continue;
      const box = boxOf(name, at, size);
      if (taken.some((other) => touch(box, other))) continue;
      taken.push(box);
      this.#write(context, name, at, size, box);
    }
  }

  /** Finds a place for each name, on no band and on no other name, wherever the view is. */
  #place(context, camera, size, bands) {
    const { k } = camera.view;
    const [left, right, top] = camera.room;
    const strip = ROW * (this.#measures.doubled ? 0.95 : 0.525) * k;
    const taken = this.#bands.map((band) => [
      band.x * k - strip, band.x * k + strip,
      (band.top - STRIP * ROW) * k, (band.bottom + STRIP * ROW) * k,
    ]);
    const found = [];
    for (const band of bands) {
      const foot = (band.top - STRIP * ROW) * k - OVER;
      for (const { lines, counted, raised } of this.#forms(context, band, size, this.#apart * k)) {
        const half = Math.max(...lines.map((line) => this.#width(context, line))) / 2;
        const x = Math.max(left + half + EDGE, Math.min(right - half - EDGE, band.x * k));
        const aside = x - band.x * k;
        const name = { band, lines, counted, half, aside, raised: raised * LINE * size };
        const box = boxOf(name, [x, foot - name.raised], size);
        const leader = [band.x * k - GAP, band.x * k + GAP, box[3], foot];
        if (raised && box[2] < top + EDGE) continue;
        if (taken.some((other) => touch(box, other) || touch(leader, other))) continue;
        taken.push(box, ...(raised ? [leader] : []));
        found.push(name);
        break;
      }
    }
    return found;
  }

  /** Lists the forms of a band's name, the most telling first. */
  *#forms(context, band, size, room) {
    const width = (text) => this.#width(context, text);
    const parts = broken(band.label, room - GAP, width);
    const forms = parts.length > 1 ? [[band.label], parts] : [[band.label]];
    const kernels = band.kernels[this.#shown.level];
    if (kernels !== undefined) {
      const count = `${WHOLE.format(this.#shown.ofBand(band))}/${WHOLE.format(kernels)}`;
      for (let raised = 0; raised <= HIGHEST; raised += 1) {
        for (const lines of forms) yield { lines: [...lines, count], counted: true, raised };
      }
    }
    for (let raised = 0; raised <= HIGHEST; raised += 1) {
      for (const lines of forms) yield { lines, counted: false, raised };
    }
    for (const end of endings(band.label)) yield { lines: [end], counted: false, raised: 0 };
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

  #write(context, { band, lines, counted }, { x, y, leader, foot }, size, [left, right, top, bottom]) {
    const colours = this.#colours;
    if (foot === null) {
      // It may lie over nodes: it is kept in sight where its place is not.
      context.fillStyle = colours.get("surface");
      context.fillRect(left - 2, top, right - left + 4, bottom - top + 2);
    } else if (foot > y + 1) {
      context.strokeStyle = colours.get("ink-3");
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(leader, y + BELOW * size + 1);
      context.lineTo(leader, foot + OVER);
      context.stroke();
    }
    lines.forEach((line, number) => {
      const at = y - (lines.length - 1 - number) * LINE * size;
      context.strokeStyle = colours.get("surface");
      context.lineWidth = 4;
      context.strokeText(line, x, at);
      const counts = counted && number === lines.length - 1;
      context.fillStyle = colours.get(band.unit && !counts ? "ink" : "ink-2");
      context.fillText(line, x, at);
    });
  }
}

const WHOLE = new Intl.NumberFormat("en");

/** Puts the unit and both ends first, then the uppermost of each column, then what is below it. */
function inOrder(bands) {
  const left = Math.min(...bands.map((band) => band.x));
  const right = Math.max(...bands.map((band) => band.x));
  const outer = (band) => band.unit || band.x === left || band.x === right;
  const upper = (band) => bands.every((other) => other.x !== band.x || other.top >= band.top);
  const rank = (band) => (outer(band) ? 0 : upper(band) ? 1 : 2);
  return [...bands].sort((a, b) => rank(a) - rank(b) || a.x - b.x || a.top - b.top);
}

/**
 * Tells where a name's last line stands, and where a leader to its band is and ends: null where the
 * name is kept in sight though its place is not. Null: it is out of sight with its band.
 *
 * @param {Name} name
 */
function locate({ band, lines, half, raised, aside }, camera, size) {
  const stage = camera.size;
  const [x, top] = camera.toStage(band.x, band.top - STRIP * ROW);
  const [, bottom] = camera.toStage(band.x, band.bottom + STRIP * ROW);
  if (bottom < 0 || top > stage.height || x < -half || x > stage.width + half) return null;
  // The name stays in sight while its band does.
  const highest = ((lines.length - 1) * LINE + ABOVE) * size + 3;
  const wanted = top - OVER - raised;
  const y = Math.round(Math.max(wanted, Math.min(highest, bottom - EDGE)));
  const usual = x + aside;
  const middle = Math.max(half + EDGE, Math.min(stage.width - half - EDGE, usual));
  const moved = y > wanted + 1 || Math.abs(middle - usual) > 1;
  return { x: Math.round(middle), y, leader: Math.round(x), foot: moved ? null : top - OVER };
}

/**
 * Gives a name's box as [left, right, top, bottom].
 *
 * @param {Name} name
 * @returns {[number, number, number, number]}
 */
function boxOf({ lines, half }, at, size) {
  const [x, y] = Array.isArray(at) ? at : [at.x, at.y];
  const top = y - ((lines.length - 1) * LINE + ABOVE) * size;
  return [x - half, x + half, top, y + BELOW * size];
}

/** @param {number[]} one @param {number[]} other */
function touch([left, right, top, bottom], [left2, right2, top2, bottom2]) {
  return (
    left < right2 + GAP && left2 < right + GAP && top < bottom2 + GAP && top2 < bottom + GAP
  );
}
