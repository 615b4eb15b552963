/** Says what is isolated, with a link to its own page where it has one, and a way back. */

/** @import { Graph } from "./graph.js" */

import { h, put } from "../dom.js";
import { title, whole } from "./words.js";

export class Chosen {
  #graph;
  #linkTo;
  #onBack;

  /**
   * @param {Graph} graph
   * @param {object} of
   * @param {(node) => string|null} [of.linkTo] address of a page about a node.
   * @param {() => void} of.onBack
   */
  constructor(graph, { linkTo, onBack }) {
    this.#graph = graph;
    this.#linkTo = linkTo;
    this.#onBack = onBack;
    /** To stand in the stage. */
    this.element = h("div", { class: "ca-chosen", hidden: true });
  }

  /** Names an item with `kernels` on its paths; null hides it. */
  show(item, kernels) {
    this.element.hidden = !item;
    if (!item) return;
    const link = item.node !== undefined && this.#linkTo?.(this.#graph.describe(item));
    put(
      this.element,
      h("strong", null, title(this.#graph, item)),
      h("span", { class: "ca-sub" }, `${whole(kernels)} kernels on its paths`),
      link && h("a", { href: link }, "Open its page"),
      h(
        "button",
        { type: "button", "aria-label": "Show all kernels again", onclick: this.#onBack },
        "×",
      ),
    );
  }
}
