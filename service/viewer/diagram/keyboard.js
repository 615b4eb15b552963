/** Follows the keys on the stage: along columns, along kernels, nearer and farther. */

/**
 * @import { Camera } from "./camera.js"
 * @import { Cursor } from "./cursor.js"
 * @import { Graph } from "./graph.js"
 * @import { Shown } from "./shown.js"
 */

/** Says what the keys do, for those who listen. */
export const HELP =
  "Up and down arrows go along a column, left and right along the strongest kernel. Comma and " +
  "full stop go through the kernels of a channel. Enter isolates, Escape resets. Plus and " +
  "minus zoom, 0 shows all. A table of all channels and kernels follows.";

export class Keyboard {
  #graph;
  #shown;
  #cursor;
  #actions;

  /**
   * @param {object} of
   * @param {HTMLElement} of.stage
   * @param {Graph} of.graph
   * @param {Shown} of.shown
   * @param {Cursor} of.cursor
   * @param {Camera} of.camera
   * @param {object} of.actions `fit()`, `pick(item)`, `reset()`.
   * @param {AbortSignal} of.signal until then it listens.
   */
  constructor({ stage, graph, shown, camera, cursor, actions, signal }) {
    this.#graph = graph;
    this.#shown = shown;
    this.#cursor = cursor;
    this.#actions = this.#keys(camera, actions);
    stage.addEventListener("keydown", (event) => this.#press(event, stage), { signal });
    stage.addEventListener("blur", () => cursor.focus(null), { signal });
  }

  #keys(camera, { fit, pick, reset }) {
    const cursor = this.#cursor;
    const choose = () => cursor.focused && pick(cursor.focused);
    return {
      "+": () => camera.zoomBy(1.4),
      "=": () => camera.zoomBy(1.4),
      "-": () => camera.zoomBy(1 / 1.4),
      0: fit,
      Escape: () => {
        cursor.focus(null);
        reset();
      },
      Enter: choose,
      " ": choose,
      ArrowUp: () => this.#step(-1),
      ArrowDown: () => this.#step(1),
      ArrowLeft: () => this.#follow("into"),
      ArrowRight: () => this.#follow("out"),
      Home: () => cursor.focus(this.#firstNode()),
      End: () => cursor.focus(this.#lastNode()),
      ",": () => this.#nextKernel(-1),
      ".": () => this.#nextKernel(1),
    };
  }

  #press(event, stage) {
    const action = this.#actions[event.key];
    if (event.target !== stage && event.key !== "Escape") return;
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#cursor.release();
    action();
  }

  /** Finds the node at the upper left. */
  #firstNode() {
    const { x, y } = this.#graph;
    const before = (a, b) => x[a] < x[b] || (x[a] === x[b] && y[a] < y[b]);
    return this.#bestNode(before);
  }

  /** Finds the unit, or what is nearest to it. */
  #lastNode() {
    const { x } = this.#graph;
    return this.#bestNode((a, b) => x[a] > x[b]);
  }

  #bestNode(better) {
    const nodes = this.#shown.nodes();
    if (!nodes.length) return null;
    return { node: nodes.reduce((best, node) => (better(node, best) ? node : best)) };
  }

  /** Gives the focused node, or the one that the focused kernel makes, or null. */
  #from() {
    const item = this.#cursor.focused;
    return item ? (item.node ?? this.#graph.end[item.edge]) : null;
  }

  #step(way) {
    const from = this.#from();
    if (from === null) {
      this.#cursor.focus(this.#lastNode());
      return;
    }
    const { x, y } = this.#graph;
    const column = this.#shown.nodes().filter((node) => x[node] === x[from]);
    column.sort((a, b) => y[a] - y[b]);
    const row = column.indexOf(from) + way;
    if (column[row] !== undefined) this.#cursor.focus({ node: column[row] });
  }

  #follow(way) {
    const from = this.#from();
    if (from === null) {
      this.#cursor.focus(this.#lastNode());
      return;
    }
    const graph = this.#graph;
    let point = from;
    do {
      const line = this.#strongest(graph[way](point));
      if (line < 0) return;
      point = way === "out" ? graph.end[line] : graph.start[line];
    } while (point >= graph.nodeCount);
    this.#cursor.focus({ node: point });
  }

  /** Finds the strongest of the lines that are drawn, or -1. */
  #strongest(lines) {
    const graph = this.#graph;
    let best = -1;
    let most = -1;
    for (const line of lines) {
      const strength = line < graph.edgeCount ? graph.strength[line] : 0;
      if (this.#shown.drawn(line) && strength > most) {
        best = line;
        most = strength;
      }
    }
    return best;
  }

  /** Goes through the kernels that make the focused node, the strongest first. */
  #nextKernel(way) {
    const from = this.#from();
    if (from === null) return;
    const graph = this.#graph;
    const kernels = [...graph.into(from)].filter(
      (line) => line < graph.edgeCount && this.#shown.drawn(line),
    );
    kernels.sort((a, b) => graph.strength[b] - graph.strength[a]);
    if (!kernels.length) return;
    const { edge } = this.#cursor.focused;
    const row = edge === undefined ? -1 : kernels.indexOf(edge);
    const next = row < 0 && way < 0 ? kernels.length - 1 : row + way;
    this.#cursor.focus({ edge: kernels[(next + kernels.length) % kernels.length] });
  }
}
