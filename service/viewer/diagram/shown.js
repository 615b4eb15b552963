/** Tells which lines and nodes are drawn: of the level, not hidden, and on what is isolated. */

/** Names the sides of two circuits as `edges.side` numbers them. */
export const SIDES = ["shared", "left", "right"];
const SIGNS = ["inhibition", "unknown", "excitation"];

export class Shown {
  #graph;
  #visible;
  #count = 0;
  #level = 0;
  #ofBands = null;
  #isolated = null;

  constructor(graph) {
    this.#graph = graph;
    this.#visible = new Uint8Array(graph.start.length);
  }

  /** Counts the kernels of the level that are not hidden. */
  get count() {
    return this.#count;
  }

  /** Gives the level that is drawn. */
  get level() {
    return this.#level;
  }

  /** Counts the kernels into a band that are drawn. */
  ofBand(band) {
    if (!this.#ofBands) {
      this.#ofBands = new Map();
      for (let edge = 0; edge < this.#graph.edgeCount; edge += 1) {
        if (!this.drawn(edge)) continue;
        const into = this.#graph.bandOf(this.#graph.end[edge]);
        this.#ofBands.set(into, (this.#ofBands.get(into) ?? 0) + 1);
      }
    }
    return this.#ofBands.get(band) ?? 0;
  }

  /** Tells whether only the paths of one item are drawn. */
  get isolating() {
    return this.#isolated !== null;
  }

  /** Counts the kernels on the isolated item's paths. */
  get isolated() {
    return this.#isolated?.kernels ?? 0;
  }

  /**
   * Takes the lines of a level, but for hidden parts.
   *
   * @param {number} level
   * @param {Set<string>} hidden sides of two circuits, or signs of one.
   */
  filter(level, hidden) {
    const graph = this.#graph;
    const bit = 1 << level;
    const hide = (graph.twoSides ? SIDES : SIGNS).map((part) => hidden.has(part));
    this.#level = level;
    this.#count = 0;
    this.#ofBands = null;
    for (let line = 0; line < graph.start.length; line += 1) {
      let on = (graph.levels[line] & bit) !== 0;
      if (on && line < graph.edgeCount) {
        on = !hide[graph.twoSides ? graph.side[line] : graph.sign[line] + 1];
        if (on) this.#count += 1;
      }
      this.#visible[line] = on ? 1 : 0;
    }
  }

  /** Leaves only what is up or down the paths of an item; null: all of it. */
  isolate(item) {
    const graph = this.#graph;
    this.#isolated = null;
    this.#ofBands = null;
    if (!item) return;
    const lines = new Uint8Array(graph.start.length);
    const points = new Uint8Array(graph.x.length);
    const walk = (first, list, ends) => {
      const queue = [first];
      const seen = new Uint8Array(graph.x.length);
      seen[first] = 1;
      while (queue.length) {
        const point = queue.pop();
        points[point] = 1;
        for (const line of list(point)) {
          if (!this.#visible[line]) continue;
          lines[line] = 1;
          if (!seen[ends[line]]) {
            seen[ends[line]] = 1;
            queue.push(ends[line]);
          }
        }
      }
    };
    if (item.node !== undefined) {
      walk(item.node, graph.out, graph.end);
      walk(item.node, graph.into, graph.start);
    } else {
      lines[item.edge] = this.#visible[item.edge];
      walk(graph.end[item.edge], graph.out, graph.end);
      walk(graph.start[item.edge], graph.into, graph.start);
    }
    let kernels = 0;
    for (let e = 0; e < graph.edgeCount; e += 1) kernels += lines[e];
    this.#isolated = { lines, points, kernels };
  }

  /** Tells whether a line is of the level and not hidden. */
  visible(line) {
    return this.#visible[line] === 1;
  }

  drawn(line) {
    return this.#visible[line] === 1 && (!this.#isolated || this.#isolated.lines[line] === 1);
  }

  /** Gives 2 where a node is drawn, 1 where it is only hinted at, 0 where it is not there. */
  visibility(node) {
    if (!(this.#graph.nodeLevels[node] & (1 << this.#level))) return 0;
    return this.#isolated && !this.#isolated.points[node] ? 1 : 2;
  }

  /** Lists the nodes that are drawn, in the order of the document. */
  nodes() {
    return [...Array(this.#graph.nodeCount).keys()].filter((node) => this.visibility(node) === 2);
  }

  /** Finds an item's own lines and nodes, over joints and bends up to the next channels. */
  around(item) {
    const graph = this.#graph;
    const edges = new Set();
    const wires = new Set();
    const nodes = new Set();
    const walk = (point, list, ends) => {
      if (point < graph.nodeCount) nodes.add(point);
      for (const line of list(point)) {
        if (!this.drawn(line)) continue;
        if (line < graph.edgeCount) {
          edges.add(line);
          if (list === graph.out) nodes.add(ends[line]);
          else back(graph.start[line]);
        } else if (!wires.has(line)) {
          wires.add(line);
          walk(ends[line], list, ends);
        }
      }
    };
    const back = (point) => {
      if (point < graph.nodeCount) {
        nodes.add(point);
        if (!graph.isJoint(point)) return;
      }
      for (const line of graph.into(point)) {
        if (line >= graph.edgeCount && this.drawn(line) && !wires.has(line)) {
          wires.add(line);
          back(graph.start[line]);
        }
      }
    };
    if (item.node !== undefined) {
      walk(item.node, graph.out, graph.end);
      walk(item.node, graph.into, graph.start);
    } else {
      edges.add(item.edge);
      nodes.add(graph.end[item.edge]);
      back(graph.start[item.edge]);
    }
    return { edges: [...edges], wires: [...wires], nodes };
  }
}
