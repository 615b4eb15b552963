/** Reads the page's colours for a canvas from elements, so that the theme decides. */

import { h } from "../dom.js";

const NAMES = [
  "ink", "ink-2", "ink-3", "line-strong", "surface", "sunken", "accent", "excite", "inhibit",
  "unknown", "shared", "left", "right", "zero",
];

export class Colours {
  #found = new Map();
  #ends = [];
  #probes;

  constructor() {
    this.#probes = NAMES.map((name) => h("i", { class: `ca-c-${name}`, dataset: { name } }));
    /** To stand in the page, unseen. */
    this.element = h("span", { class: "ca-sr", "aria-hidden": "true" }, this.#probes);
    this.font = "sans-serif";
  }

  /** Reads the colours anew. */
  read() {
    for (const probe of this.#probes) {
      this.#found.set(probe.dataset.name, getComputedStyle(probe).color);
    }
    this.font = getComputedStyle(this.element).fontFamily;
    this.#ends = ["inhibit", "zero", "excite"].map((name) => channels(this.get(name)));
  }

  get(name) {
    return this.#found.get(name);
  }

  /** Gives the colour of a weight from -1 to 1. */
  weight(value) {
    const [low, zero, high] = this.#ends;
    const end = value < 0 ? low : high;
    const part = Math.abs(value);
    return `rgb(${zero.map((c, i) => Math.round(c + (end[i] - c) * part)).join(" ")})`;
  }
}

/** Gives red, green and blue of a colour, whichever way the browser wrote it. */
function channels(colour) {
  const canvas = document.createElement("canvas");
  canvas.width = 1;
  canvas.height = 1;
  const context = canvas.getContext("2d");
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
}
