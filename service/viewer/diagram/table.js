/** Writes the drawing as two tables, for those who do not see it and for copying. */

/**
 * @import { Graph } from "./graph.js"
 * @import { Shown } from "./shown.js"
 */

import { h } from "../dom.js";
import { digits, effect, percent } from "./words.js";

const ROWS = 200; // at first, since thousands of rows take seconds

export class Table {
  #graph;
  #shown;
  #most = ROWS;
  #body = h("div", { class: "ca-table-body" });

  /**
   * @param {object} of
   * @param {Graph} of.graph
   * @param {Shown} of.shown
   * @param {(open: boolean) => void} of.onToggle
   */
  constructor({ graph, shown, onToggle }) {
    this.#graph = graph;
    this.#shown = shown;
    const toggled = () => {
      this.#most = ROWS;
      if (this.element.open) this.#fill();
      else this.#body.replaceChildren();
      onToggle(this.element.open);
    };
    this.element = h(
      "details",
      { class: "ca-table", ontoggle: toggled },
      h("summary", null, "Table of channels and kernels"),
      this.#body,
    );
  }

  set open(open) {
    this.element.open = open;
  }

  /** Writes the tables anew, since something else is drawn. */
  refresh() {
    if (this.element.open) this.#fill();
  }

  #fill() {
    const most = this.#most;
    const channels = this.#channels();
    const kernels = this.#kernels();
    const more = () => {
      this.#most *= 5;
      this.#fill();
    };
    this.#body.replaceChildren(
      table(
        `Channels, by share: ${Math.min(most, channels.length)} of ${channels.length}`,
        ["Convolution", "Channel", "Score", "Share", "Contribution"],
        channels.slice(0, most).map((node) => this.#channelRow(node)),
      ),
      table(
        `Kernels, by score: ${Math.min(most, kernels.length)} of ${kernels.length}`,
        ["Convolution", "Out", "In", "Score", "Share", "Contribution", "Effect"],
        kernels.slice(0, most).map((edge) => this.#kernelRow(edge)),
      ),
      ...(Math.max(kernels.length, channels.length) > most
        ? [h("button", { type: "button", onclick: more }, "Show more rows")]
        : []),
    );
  }

  #channels() {
    const { share } = this.#graph.data.nodes;
    const found = this.#shown.nodes().filter((node) => !this.#graph.isJoint(node));
    return found.sort((a, b) => share[b] - share[a]);
  }

  #kernels() {
    const { score } = this.#graph.data.edges;
    const all = [...Array(this.#graph.edgeCount).keys()];
    const found = all.filter((edge) => this.#shown.drawn(edge));
    return found.sort((a, b) => (score[b] ?? 0) - (score[a] ?? 0));
  }

  #channelRow(node) {
    const { nodes } = this.#graph.data;
    return [
      this.#graph.bandOf(node).name,
      nodes.channel[node],
      digits(nodes.score[node]),
      percent(nodes.share[node]),
      digits(nodes.contribution[node]),
    ];
  }

  #kernelRow(edge) {
    const { nodes, edges } = this.#graph.data;
    const end = this.#graph.end[edge];
    return [
      this.#graph.bandOf(end).name,
      nodes.channel[end],
      edges.channel[edge],
      digits(edges.score[edge]),
      percent(edges.share[edge]),
      digits(edges.contribution[edge]),
      effect(edges.contribution[edge]),
    ];
  }
}

function table(caption, heads, rows) {
  return h(
    "table",
    null,
    h("caption", null, caption),
    h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", null, rows.map((row) => h("tr", null, row.map((cell) => h("td", null, cell))))),
  );
}
