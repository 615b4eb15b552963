/** Indexes the nodes and lines of a diagram's document; nothing of it changes. */

/** @import { Content } from "openapi" */

/** Tells whether a band's nodes join lines and have no image of their own. */
export const joins = (band) =>
  band.kind === "sum" || band.kind === "product" || band.kind === "mix";

/**
 * What a reader can point at: a node or a kernel, by its number.
 *
 * @typedef {{node?: number, edge?: number}} Item
 */

/**
 * Points are the nodes, then the bends of wires; lines are the edges, which are kernels, then the
 * wires.
 */
export class Graph {
  #byName = new Map();
  #weightBytes;
  #weightStart;

  /** @param {Content} data whose fields `service/diagram/data.py` describes. */
  constructor(data) {
    this.data = data;
    const { nodes, bends, edges, wires } = data;
    this.nodeCount = nodes.band.length;
    this.edgeCount = edges.end.length;
    this.x = Float32Array.from([...nodes.x, ...bends.x]);
    this.y = Float32Array.from([...nodes.y, ...bends.y]);
    this.band = Uint16Array.from(nodes.band);
    this.start = Uint32Array.from([...edges.start, ...wires.start]);
    this.end = Uint32Array.from([...edges.end, ...wires.end]);
    this.levels = Int32Array.from([...edges.levels, ...wires.levels]);
    this.nodeLevels = Int32Array.from(nodes.levels);
    this.strength = Float32Array.from(edges.strength);
    this.sign = Int8Array.from(edges.contribution, (c) => (c === null || c === 0 ? 0 : Math.sign(c)));
    this.side = Uint8Array.from(edges.side);
    this.twoSides = data.sides.length > 0;
    this.featured = nodes.feature.some(Boolean);
    this.cropped = nodes.crops.some((some) => some.length);
    /** Gives the lines that start at a point. */
    this.out = this.#lists(this.start);
    /** Gives the lines that end at a point. */
    this.into = this.#lists(this.end);
    for (let n = 0; n < this.nodeCount; n += 1) this.#byName.set(this.#nodeName(n), n);
    this.#indexWeights();
  }

  /** Lists for each point the lines that start, or end, there. */
  #lists(ends) {
    const first = new Uint32Array(this.x.length + 1);
    for (const end of ends) first[end + 1] += 1;
    for (let i = 0; i < this.x.length; i += 1) first[i + 1] += first[i];
    const lines = new Uint32Array(ends.length);
    const next = first.slice();
    ends.forEach((end, line) => {
      lines[next[end]] = line;
      next[end] += 1;
    });
    return (point) => lines.subarray(first[point], first[point + 1]);
  }

  #indexWeights() {
    const { scale, values } = this.data.weights;
    const bytes = atob(values);
    this.#weightBytes = Int8Array.from(bytes, (c) => (c.charCodeAt(0) << 24) >> 24);
    this.#weightStart = new Int32Array(this.edgeCount);
    let next = 0;
    for (let e = 0; e < this.edgeCount; e += 1) {
      const kernel = this.bandOf(this.end[e]).kernel;
      this.#weightStart[e] = scale[e] === null ? -1 : next;
      if (scale[e] !== null && kernel) next += kernel[0] * kernel[1];
    }
  }

  bandOf(node) {
    return this.data.bands[this.band[node]];
  }

  isJoint(node) {
    return joins(this.bandOf(node));
  }

  /**
   * Gives a kernel's weights as `{high, wide, values}`, -127 to 127 row by row; null where not
   * known.
   */
  weightsOf(edge) {
    const kernel = this.bandOf(this.end[edge]).kernel;
    const from = this.#weightStart[edge];
    if (!kernel || from < 0) return null;
    const [high, wide] = kernel;
    return { high, wide, values: this.#weightBytes.subarray(from, from + high * wide) };
  }

  /**
   * Names an item: "convolution:channel" of a node, "convolution:out:in" of a kernel.
   *
   * @param {Item} item
   */
  nameOf({ node, edge }) {
    if (node !== undefined) return this.#nodeName(node);
    return `${this.#nodeName(this.end[edge])}:${this.data.edges.channel[edge]}`;
  }

  #nodeName(node) {
    return `${this.bandOf(node).name}:${this.data.nodes.channel[node]}`;
  }

  /**
   * Finds the item of that name, or null.
   *
   * @param {string|null} name
   * @returns {Item|null}
   */
  itemNamed(name) {
    if (!name) return null;
    const node = this.#byName.get(name);
    if (node !== undefined) return { node };
    const cut = name.lastIndexOf(":");
    const end = this.#byName.get(name.slice(0, cut));
    const channel = Number(name.slice(cut + 1));
    if (end === undefined) return null;
    for (const line of this.into(end)) {
      if (line < this.edgeCount && this.data.edges.channel[line] === channel) return { edge: line };
    }
    return null;
  }

  /** Finds the number of the unit that a node is; the first where none has its name. */
  #unitOf(band, channel) {
    const { layers, units } = this.data;
    const named = (unit, n) =>
      band.kind === "unit" ? band.name === `${layers[n]}/${unit}` : unit === String(channel);
    return Math.max(0, units.findIndex(named));
  }

  /**
   * Describes an item to a page.
   *
   * @param {Item} item
   */
  describe({ node, edge }) {
    const { data } = this;
    if (node === undefined) {
      return {
        type: "kernel",
        convolution: this.bandOf(this.end[edge]).name,
        out: data.nodes.channel[this.end[edge]],
        in: data.edges.channel[edge],
      };
    }
    const band = this.bandOf(node);
    const own = band.unit || band.kind === "unit";
    const unit = this.#unitOf(band, data.nodes.channel[node]);
    return {
      type: "node",
      kind: band.kind,
      convolution: band.kind === "channel" ? band.name : null,
      channel: data.nodes.channel[node],
      layer: own ? data.layers[unit] : null,
      unit: own ? data.units[unit] : null,
      feature: data.nodes.feature[node] || null,
    };
  }
}
