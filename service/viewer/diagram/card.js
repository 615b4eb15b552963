/** Draws the card beside what the pointer or the keyboard is on. */

import { h, style } from "../dom.js";
/** @import { Item } from "./graph.js" */

import { digits, effect, percent, subtitle, title, whole } from "./words.js";

const STRIP = 112; // pixels of an image's side, shown half as large
const WEIGHTS = 60; // pixels of the drawing of a kernel's weights

const colour = (value) => (value > 0 ? "ca-c-excite" : value < 0 ? "ca-c-inhibit" : "");

export class Card {
  #graph;
  #shown;
  #camera;
  #nodeImages;
  #weights;

  constructor({ graph, shown, camera, nodeImages, weights }) {
    this.#graph = graph;
    this.#shown = shown;
    this.#camera = camera;
    this.#nodeImages = nodeImages;
    this.#weights = weights;
    /** To stand in the stage. */
    this.element = h("div", { class: "ca-card", hidden: true });
  }

  /**
   * Tells of an item; null hides it.
   *
   * @param {Item|null} item
   */
  show(item) {
    this.element.hidden = !item;
    this.element.replaceChildren();
    if (!item) return;
    const under = subtitle(this.#graph, item);
    const { drawing, facts } = item.node !== undefined ? this.#node(item.node) : this.#edge(item.edge);
    this.element.append(
      h("strong", null, title(this.#graph, item)),
      ...(under ? [h("span", { class: "ca-sub" }, under)] : []),
      ...(drawing ? [drawing] : []),
      h("dl", null, facts.map(([name, value, kind = ""]) => [
        h("dt", null, name),
        h("dd", { class: kind, "data-fact": name }, value),
      ])),
    );
  }

  #node(node) {
    const graph = this.#graph;
    const { nodes } = graph.data;
    const { kind } = graph.bandOf(node);
    const facts = [];
    if (kind === "channel" || kind === "image") {
      const given = nodes.contribution[node];
      facts.push(
        ["score", digits(nodes.score[node])],
        ["share", percent(nodes.share[node])],
        ["contribution", digits(given), colour(given)],
      );
    }
    const counts = (line) => line < graph.edgeCount && this.#shown.visible(line);
    // Kernels that read it, over its bends and the joints that it feeds.
    const read = this.#shown.around({ node }).edges.filter((edge) => graph.end[edge] !== node);
    facts.push(
      ["kernels in", whole(graph.into(node).filter(counts).length)],
      ["kernels out", whole(read.length)],
    );
    return { drawing: this.#strip(node), facts };
  }

  #edge(edge) {
    const { edges, sides, weights } = this.#graph.data;
    const given = edges.contribution[edge];
    const facts = [
      ["score", digits(edges.score[edge])],
      ["share", percent(edges.share[edge])],
      ["contribution", digits(given), colour(given)],
      ["effect", effect(given), colour(given)],
    ];
    if (sides.length) {
      facts.push(["circuit", ["both", "only left", "only right"][edges.side[edge]]]);
      if (edges.other[edge] !== null) facts.push(["score, right", digits(edges.other[edge])]);
    }
    if (weights.scale[edge] !== null) {
      facts.push(["largest weight", `±${digits(weights.scale[edge])}`]);
    }
    return { drawing: this.#kernel(edge), facts };
  }

  /** Shows the images of a node that are loaded, or gives null. */
  #strip(node) {
    const { nodes, images } = this.#graph.data;
    const names = new Map(images);
    const found = [
      [this.#nodeImages.feature(node), "feature visualization"],
      ...nodes.crops[node].map((crop, rank) => [
        this.#nodeImages.crop(node, rank),
        `crop of ${names.get(crop[0])}`,
      ]),
    ].filter(([image]) => image);
    if (!found.length) return null;
    return h("div", { class: "ca-strip" }, found.map(([[image, box], text]) => {
      const canvas = h("canvas", { width: STRIP, height: STRIP, role: "img", "aria-label": text });
      const [x, y, width, height] = box;
      canvas.getContext("2d").drawImage(image, x, y, width, height, 0, 0, STRIP, STRIP);
      return canvas;
    }));
  }

  #kernel(edge) {
    const weights = this.#graph.weightsOf(edge);
    if (!weights) return null;
    const { high, wide } = weights;
    const cell = Math.max(4, Math.floor(WEIGHTS / Math.max(high, wide)));
    const canvas = h("canvas", {
      class: "ca-kernel",
      width: wide * cell + 2,
      height: high * cell + 2,
      role: "img",
      "aria-label": `weights, ${high} by ${wide}`,
    });
    this.#weights.drawOne(canvas.getContext("2d"), weights, 0, 0, cell);
    return canvas;
  }

  /** Moves beside a position on the stage, or `below` it where there is room. */
  moveTo(x, y, below = 0) {
    const { width, height } = this.#camera.size;
    const box = this.element.getBoundingClientRect();
    const right = x + 16 + box.width < width;
    const left = right ? x + 16 : Math.max(4, x - 16 - box.width);
    const wanted = below && y + below + box.height < height ? y + below : y - box.height / 3;
    const top = Math.min(Math.max(4, wanted), Math.max(4, height - box.height - 4));
    style(this.element, { left: `${Math.round(left)}px`, top: `${Math.round(top)}px` });
  }
}
