/**
 * Loads the crops and feature visualizations of nodes as they are needed: small ones on one sheet
 * where there is one, large ones each by itself.
 */

/** @import { Graph } from "./graph.js" */

const CELL = 64; // pixels of a thumbnail's side
const COLUMNS = 16; // of a sheet
const MOST_NODES = 400; // on a sheet
const SHEET_SIZE = 48; // points of a node, up to which the sheet will do

/**
 * An image and the part of it that is drawn: [x, y, width, height] in its pixels.
 *
 * @typedef {[CanvasImageSource, [number, number, number, number]]} Part
 */

export class NodeImages {
  #graph;
  #imageUrl;
  #featureUrl;
  #sheetUrl;
  #onSettled;
  #images = new Map();
  #thumbs = new Map();
  #waiting = 0;
  #small = new OffscreenCanvas(CELL, CELL).getContext("2d");

  /**
   * @param {Graph} graph
   * @param {object} from
   * @param {(image) => string} [from.imageUrl]
   * @param {(node) => string} [from.featureUrl]
   * @param {(shows: "features"|"crops") => string} [from.sheetUrl] of all nodes' images, small: that
   *   of node n in column n % 16 of row n // 16.
   * @param {() => void} from.onSettled one more image is there, or will not come.
   */
  constructor(graph, { imageUrl, featureUrl, sheetUrl, onSettled }) {
    this.#graph = graph;
    this.#imageUrl = imageUrl;
    this.#featureUrl = featureUrl;
    if (graph.nodeCount <= MOST_NODES) this.#sheetUrl = sheetUrl;
    this.#onSettled = onSettled;
  }

  /** Counts the images that were asked for and may still come. */
  get waiting() {
    return this.#waiting;
  }

  /** Draws a node's image, where it is there, into a square of `size` pixels. */
  draw(context, node, { kind, x, y, size, ratio }) {
    const part = this.#part(node, kind, size, ratio);
    if (!part) return;
    const [image, [left, top, width, height]] = part;
    context.drawImage(image, left, top, width, height, x, y, size, size);
  }

  /** @returns {Part|null} */
  #part(node, kind, size, ratio) {
    const { feature, crops } = this.#graph.data.nodes;
    if (!crops[node].length && !(kind === "features" && feature[node])) return null;
    const sheet = this.#sheet(kind);
    if (sheet && size <= SHEET_SIZE) return cell(sheet, node);
    return this.#sized(node, kind, size * ratio) ?? (sheet && cell(sheet, node));
  }

  /** Gives the sheet, there or on its way; null: there is none, or it will not come. */
  #sheet(kind) {
    if (!this.#sheetUrl) return null;
    const shows = kind === "features" ? kind : "crops";
    const held = this.#held(`sheet ${shows}`, () => this.#sheetUrl(shows));
    return held.failed ? null : held;
  }

  /** Gives it small and ready where it is drawn small: scaling an image for each node takes long. */
  #sized(node, kind, pixels) {
    const feature = kind === "features" ? this.feature(node) : null;
    const source = feature ?? this.crop(node, 0);
    if (!source || pixels > CELL * 1.1) return source;
    const key = `${feature ? "feature" : "crop"} ${node}`;
    if (!this.#thumbs.has(key)) this.#thumbs.set(key, this.#shrunk(source));
    return this.#thumbs.get(key);
  }

  /** @param {Part} part @returns {Part} */
  #shrunk([image, [left, top, width, height]]) {
    this.#small.imageSmoothingQuality = "high";
    this.#small.drawImage(image, left, top, width, height, 0, 0, CELL, CELL);
    // Each a bitmap of its own: a canvas that holds many is copied, all of it, whenever one is drawn
    // on it after one was drawn from it.
    return [this.#small.canvas.transferToImageBitmap(), [0, 0, CELL, CELL]];
  }

  /** Gives a node's feature visualization where it is loaded. @returns {Part|null} */
  feature(node) {
    if (!this.#graph.data.nodes.feature[node] || !this.#featureUrl) return null;
    const url = () => this.#featureUrl(this.#graph.describe({ node }));
    const image = this.#load(`feature ${node}`, url);
    return image && [image, [0, 0, image.naturalWidth, image.naturalHeight]];
  }

  /**
   * Gives a node's crop of that rank where it is loaded: square, and at least a twelfth of the
   * image wide.
   *
   * @returns {Part|null}
   */
  crop(node, rank) {
    const crop = this.#graph.data.nodes.crops[node][rank];
    if (!crop || !this.#imageUrl) return null;
    const image = this.#load(`image ${crop[0]}`, () => this.#imageUrl(crop[0]));
    return image && [image, this.#box(crop)];
  }

  /** @returns {[number, number, number, number]} */
  #box([, top, left, bottom, right]) {
    const { input_width: width, input_height: height } = this.#graph.data;
    const least = Math.min(width, height) / 12;
    const side = Math.min(
      Math.min(width, height),
      Math.max(least, Math.max(bottom - top, right - left) * 1.08),
    );
    const x = Math.min(width - side, Math.max(0, (left + right - side) / 2));
    const y = Math.min(height - side, Math.max(0, (top + bottom - side) / 2));
    return [x, y, side, side];
  }

  #load(key, address) {
    const { image, ready } = this.#held(key, address);
    return ready ? image : null;
  }

  /** Asks for an image once. */
  #held(key, address) {
    if (!this.#images.has(key)) {
      const held = { image: new Image(), ready: false, failed: false };
      this.#images.set(key, held);
      const url = address();
      if (url) {
        held.image.decoding = "async";
        // Before images that are further down the page.
        held.image.fetchPriority = "high";
        const came = (ready) => () => {
          held.ready = ready;
          held.failed = !ready;
          this.#waiting -= 1;
          this.#onSettled();
        };
        held.image.onload = came(true);
        held.image.onerror = came(false);
        this.#waiting += 1;
        held.image.src = url;
      }
    }
    return this.#images.get(key);
  }
}

/** Gives a node's part of a sheet, or null where that is on its way. @returns {Part|null} */
function cell({ image, ready }, node) {
  if (!ready) return null;
  const side = image.naturalWidth / COLUMNS;
  return [image, [(node % COLUMNS) * side, Math.floor(node / COLUMNS) * side, side, side]];
}
