/** Says under the drawing how much of the circuit is drawn, and what widths and colours mean. */

import { h } from "../dom.js";
import { whole } from "./words.js";

export class Foot {
  #graph;
  #count = h("p", { class: "ca-count" });

  constructor(graph) {
    this.#graph = graph;
    this.element = h("div", { class: "ca-foot" }, this.#count, this.#legend());
  }

  #legend() {
    const line = (className) => h("i", { class: `ca-stroke ${className}` });
    const { sides } = this.#graph.data;
    return h(
      "p",
      { class: "ca-legend" },
      h(
        "span",
        { class: "ca-entry" },
        line("ca-thin"), line("ca-middle"), line("ca-thick"),
        h("span", null, "width: square root of the score over the largest of its convolution"),
      ),
      h(
        "span",
        { class: "ca-entry" },
        h("span", { class: "ca-scale", "aria-hidden": "true" }),
        h("span", null, "weights, below and above 0"),
      ),
      this.#graph.twoSides
        ? h("span", { class: "ca-sides" }, `left: ${sides[0]}; right: ${sides[1]}`)
        : null,
    );
  }

  /** Tells how many kernels are drawn of a level. */
  tell(shown, { on_path: onPath, kernels }) {
    const { counts } = this.#graph.data;
    const [whose, ends] = this.#graph.twoSides
      ? ["both circuits", "either's unit"]
      : ["circuit", "the unit"];
    const parts = [
      `${whole(shown)} of ${whole(onPath)} kernels on a path are drawn`,
      `${whose} of ${whole(kernels)} kernels, out of ${whole(counts.reachable)} that can reach ${ends}`,
    ];
    if (counts.drawn) {
      const before = whole(counts.crossings_before);
      parts.push(`${whole(counts.crossings_after)} crossings (${before} before ordering)`);
    }
    this.#count.textContent = parts.join(" · ");
  }
}
