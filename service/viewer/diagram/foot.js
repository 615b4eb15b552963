/** Says under the drawing how much of the circuit is drawn, and what widths and colours mean. */

import { h } from "../dom.js";
import { percent, whole } from "./words.js";

/** Says how much of the response the drawn paths carry. */
function carries(share, hiding) {
  const much = share > 1 - 1e-5 ? "all" : share > 0 ? percent(Math.min(0.999, share)) : "none";
  return `${hiding ? "with nothing hidden, the" : "the"} paths drawn carry ${much}`;
}

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
      h("span", null, "under the name: kernels drawn / in the circuit"),
      this.#graph.twoSides
        ? h("span", { class: "ca-sides" }, `left: ${sides[0]}; right: ${sides[1]}`)
        : null,
    );
  }

  /** Tells how many kernels are drawn of a level, `hiding`: not all of its drawing. */
  tell(shown, { on_path: onPath, kernels, carried }, hiding) {
    const { counts } = this.#graph.data;
    const [whose, ends] = this.#graph.twoSides
      ? ["both circuits", "either's unit"]
      : ["circuit", "the unit"];
    const parts = [
      `${whole(shown)} of ${whole(onPath)} kernels on a path are drawn`,
      `${whose} of ${whole(kernels)} kernels, out of ${whole(counts.reachable)} that can reach ${ends}`,
    ];
    if (counts.drawn) {
      const of = this.#graph.twoSides ? "each response, or more" : "the response";
      parts.push(`${carries(carried, hiding)} of ${of}, by absolute contribution`);
    }
    if (counts.drawn && !this.#graph.data.beside) {
      const before = whole(counts.crossings_before);
      parts.push(`${whole(counts.crossings_after)} crossings (${before} before ordering)`);
    }
    this.#count.textContent = parts.join(" · ");
  }
}
