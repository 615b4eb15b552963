/** Draws the card beside what the pointer or the keyboard is on. */

import { h, style } from "../dom.js";
/** @import { Item } from "./graph.js" */

import { heightAt } from "./curve.js";
import { placed } from "./placement.js";
import { digits, effect, percent, subtitle, title, whole } from "./words.js";

const STRIP = 112; // pixels of an image's side, shown half as large
const WEIGHTS = 60; // pixels of the drawing of a kernel's weights

const NEAR = 6; // pixels around what the card speaks of that stay free
const LINE = 24; // pieces of a kernel's line
const MOST_LINES = 60; // of a channel, that the card gives way to
const MOST_IMAGES = 4;

const colour = (value) => (value > 0 ? "ca-c-excite" : value < 0 ? "ca-c-inhibit" : "");

export class Card {
  #graph;
  #shown;
  #camera;
  #measures;
  #nodeImages;
  #weights;
  #linkTo;

  constructor({ graph, shown, camera, measures, nodeImages, weights, linkTo }) {
    this.#graph = graph;
    this.#measures = measures;
    this.#linkTo = linkTo;
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
    const link = item.node !== undefined && this.#linkTo?.(this.#graph.describe(item));
    const { drawing, facts } = item.node !== undefined ? this.#node(item.node) : this.#edge(item.edge);
    this.element.append(
      h("strong", null, title(this.#graph, item)),
      ...(under ? [h("span", { class: "ca-sub" }, under)] : []),
      ...(drawing ? [drawing] : []),
      h("dl", null, facts.map(([name, value, kind = ""]) => [
        h("dt", null, name),
        h("dd", { class: kind, "data-fact": name }, value),
      ])),
      ...(link ? [h("a", { href: link }, "Open its page")] : []),
    );
    this.move(item);
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
    ]
      .filter(([image]) => image)
      .slice(0, MOST_IMAGES);
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

  /** Moves to where it covers nothing of what it tells of. */
  move(item) {
    const blocks = this.#blocks(item);
    style(this.element, { "max-height": null, left: "0", top: "0" });
    const { width, height } = this.element.getBoundingClientRect();
    const found = placed({ width, height }, this.#camera.size, blocks, this.#around(item));
    style(this.element, {
      left: `${Math.round(found.left)}px`,
      top: `${Math.round(found.top)}px`,
      "max-height": found.height < height ? `${Math.floor(found.height)}px` : null,
    });
  }

  /** Lists what an item takes up on the stage: a node's square; a kernel's ends, and its line. */
  #blocks({ node, edge }) {
    if (node !== undefined) return [this.#square(node)];
    const [from, to] = [this.#graph.start[edge], this.#graph.end[edge]];
    return [this.#square(from), this.#square(to), ...this.#line(edge)];
  }

  /** Lists what of a channel's own lines and their other ends takes up, where those are few. */
  #around(item) {
    if (item.node === undefined) return [];
    const { edges, nodes } = this.#shown.around(item);
    if (edges.length > MOST_LINES) return [];
    return [...edges.flatMap((edge) => this.#line(edge)), ...[...nodes].map((node) => this.#square(node))];
  }

  #line(edge) {
    const graph = this.#graph;
    const [from, to] = [graph.start[edge], graph.end[edge]];
    const x0 = graph.x[from] + this.#measures.half(from);
    const x1 = graph.x[to] - this.#measures.half(to);
    return Array.from({ length: LINE + 1 }, (_, step) => {
      const share = step / LINE;
      const y = graph.y[from] + (graph.y[to] - graph.y[from]) * heightAt(share);
      const [x, top] = this.#camera.toStage(x0 + (x1 - x0) * share, y);
      return { left: x - NEAR, right: x + NEAR, top: top - NEAR, bottom: top + NEAR };
    });
  }

  #square(point) {
    const graph = this.#graph;
    const [x, y] = this.#camera.toStage(graph.x[point], graph.y[point]);
    const { k } = this.#camera.view;
    const wide = this.#measures.half(point) * k + NEAR;
    const high = (point < graph.nodeCount ? (this.#measures.size(point) * k) / 2 : 0) + NEAR;
    return { left: x - wide, right: x + wide, top: y - high, bottom: y + high };
  }
}
