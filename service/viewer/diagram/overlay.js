/** Draws what the pointer or the keyboard is on, above the drawing, with its own lines. */

export class Overlay {
  #graph;
  #shown;
  #measures;
  #colours;
  #parts;

  /** @param {object} of `parts`: what draws lines, nodes and weights. */
  constructor({ graph, shown, measures, colours, parts }) {
    this.#graph = graph;
    this.#shown = shown;
    this.#measures = measures;
    this.#colours = colours;
    this.#parts = parts;
  }

  /** Draws around the middle of the stage, a piece at a time. */
  *draw(context, camera, { item, hovered, marked }) {
    if (marked) this.#outline(context, camera, marked, false);
    if (!item) return;
    if (hovered) yield* this.#drawAround(context, camera, item);
    this.#outline(context, camera, item, hovered);
  }

  #outline(context, camera, item, hovered) {
    context.strokeStyle = this.#colours.get("accent");
    context.lineWidth = 2.5;
    if (item.node !== undefined) this.#frame(context, camera.view, item.node);
    else if (!hovered) {
      context.beginPath();
      this.#parts.lines.trace(context, camera.view, item.edge);
      context.stroke();
    }
  }

  *#drawAround(context, camera, item) {
    const { view } = camera;
    const seen = camera.seen();
    const { lines, nodes, weights } = this.#parts;
    const around = this.#shown.around(item);
    const edges = lines.inSight(around.edges, seen, view.k);
    const wires = lines.inSight(around.wires, seen, view.k);
    yield* lines.strokeWires(context, view, wires, "ink-3");
    yield* lines.stroke(context, view, edges, around.edges.length / 4);
    for (const node of around.nodes) nodes.draw(context, view, node, camera.size.ratio);
    yield;
    yield* weights.draw(context, view, edges, seen, "always");
  }

  #frame(context, view, node) {
    const high = Math.max(6, this.#measures.size(node) * view.k) + 5;
    const wide = Math.max(6, 2 * this.#measures.half(node) * view.k) + 5;
    const x = (this.#graph.x[node] - view.x) * view.k;
    const y = (this.#graph.y[node] - view.y) * view.k;
    context.beginPath();
    context.roundRect(x - wide / 2, y - high / 2, wide, high, 4);
    context.stroke();
  }
}
