/** Tells how large nodes and lines are, by the reader's sliders. */

/** Counts the points from one channel of a band to the next. */
export const ROW = 40;
const NODE = 30;

export class Measures {
  #graph;
  #sizes;
  #halves;
  #lines = 1;
  #images = "none";

  constructor(graph) {
    this.#graph = graph;
    // Ask the graph once: lines ask for both ends at every stroke.
    this.#sizes = new Float64Array(graph.nodeCount);
    this.#halves = new Float64Array(graph.x.length);
  }

  /** @param {{nodes: number, kernels: number, images: string}} wanted */
  set({ nodes, kernels, images }) {
    this.#lines = kernels;
    this.#images = images;
    for (let node = 0; node < this.#graph.nodeCount; node += 1) {
      const size = this.#size(node, nodes);
      this.#sizes[node] = size;
      this.#halves[node] = this.doubled && !this.#graph.isJoint(node) ? size : size / 2;
    }
  }

  #size(node, wanted) {
    const band = this.#graph.bandOf(node);
    const small = Math.min(1.25, wanted ** 0.6);
    const large = Math.min(1.6, Math.max(1, wanted ** 0.6 / 1.25));
    if (band.unit || band.kind === "unit") return NODE * 1.35 * small * large;
    return this.#graph.isJoint(node) ? NODE * 0.5 * small : NODE * small * large;
  }

  /** Says which images nodes show: "crops", "features", "both" or "none". */
  get images() {
    return this.#images;
  }

  /** Tells whether nodes are twice as wide, for two images. */
  get doubled() {
    return this.#images === "both";
  }

  /** Gives the height of a node in points, which is the width of one image. */
  size(node) {
    return this.#sizes[node];
  }

  /** Gives half the width of a node in points, 0 of a bend. */
  half(point) {
    return this.#halves[point];
  }

  /** Gives the width in pixels of a kernel of that strength, at `k` pixels a point. */
  line(strength, k) {
    const zoom = Math.min(2.2, Math.max(0.35, k * 1.1));
    return (0.6 + 3.6 * strength) * zoom * this.#lines;
  }
}
