/** Keeps what the pointer or the keyboard is on, and shows the card that tells of it. */

/**
 * @import { Camera } from "./camera.js"
 * @import { Card } from "./card.js"
 * @import { Graph, Item } from "./graph.js"
 */

import { fresh, h } from "../dom.js";
import { label } from "./words.js";

const INSET = 20; // pixels from the stage's edge where a focused item still counts as seen

const same = (a, b) => a === b || (a && b && a.node === b.node && a.edge === b.edge);

export class Cursor {
  #graph;
  #camera;
  #card;
  #stage;
  #announce;
  #onChange;
  #hover = null;
  #focus = null;

  /**
   * @param {object} of
   * @param {Graph} of.graph
   * @param {Camera} of.camera
   * @param {Card} of.card
   * @param {HTMLElement} of.stage
   * @param {(text: string) => void} of.announce
   * @param {() => void} of.onChange
   */
  constructor({ graph, camera, card, stage, announce, onChange }) {
    this.#graph = graph;
    this.#camera = camera;
    this.#card = card;
    this.#stage = stage;
    this.#announce = announce;
    this.#onChange = onChange;
    /** To stand in the stage: what `aria-activedescendant` names. */
    this.element = h("div", { class: "ca-sr", id: fresh("ca-current"), role: "img" });
  }

  /** Gives the item that it is on, or null. */
  get item() {
    return this.#hover ?? this.#focus;
  }

  /** Tells whether the pointer is on it, and not the keyboard. */
  get hovered() {
    return this.#hover !== null;
  }

  /** Gives the item that the keyboard is on, or null. */
  get focused() {
    return this.#focus;
  }

  /** Puts the pointer on an item, or on nothing, at a position on the stage. */
  hover(item, x = 0, y = 0) {
    if (same(this.#hover, item)) {
      if (item) this.#card.moveTo(x, y);
      return;
    }
    this.#hover = item;
    this.#stage.classList.toggle("ca-on", Boolean(item));
    this.#card.show(item);
    if (item) this.#card.moveTo(x, y);
    this.#onChange();
  }

  /** Lets the keyboard take over: what the pointer is on counts no more. */
  release() {
    this.#hover = null;
  }

  /** Puts the keyboard on an item, which comes into sight, or on nothing. */
  focus(item) {
    this.#focus = item;
    if (item) this.#meet(item);
    else {
      this.#stage.removeAttribute("aria-activedescendant");
      this.#card.show(null);
    }
    this.#onChange();
  }

  #meet(item) {
    const graph = this.#graph;
    const text = label(graph, item);
    this.element.setAttribute("aria-label", text);
    this.#stage.setAttribute("aria-activedescendant", this.element.id);
    this.#announce(text);
    const point = item.node ?? graph.end[item.edge];
    const [sx, sy] = this.#camera.toStage(graph.x[point], graph.y[point]);
    const { width, height } = this.#camera.size;
    if (sx < INSET || sy < INSET || sx > width - INSET || sy > height - INSET) {
      this.#camera.centre(graph.x[point], graph.y[point]);
    }
    this.#card.show(item);
    const start = item.edge === undefined ? point : graph.start[item.edge];
    const [x, y] = this.#camera.toStage(
      (graph.x[point] + graph.x[start]) / 2,
      (graph.y[point] + graph.y[start]) / 2,
    );
    if (item.edge === undefined) this.#card.moveTo(x + 14, y);
    else this.#card.moveTo(x - 60, y, Math.abs(sy - y) + 24);
  }
}
