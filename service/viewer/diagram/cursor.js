/** Keeps what the pointer or the keyboard is on, and shows the card that tells of it. */

/**
 * @import { Camera } from "./camera.js"
 * @import { Card } from "./card.js"
 * @import { Graph, Item } from "./graph.js"
 */

import { fresh, h } from "../dom.js";
import { label } from "./words.js";

const INSET = 20; // pixels from the stage's edge where a focused item still counts as seen
const REACH_MS = 160; // for the pointer to come from an item to its card, over whatever lies between
const REST_MS = 400; // until a pointer on the card is taken to be on what lies under it

const same = (a, b) => a === b || (a && b && a.node === b.node && a.edge === b.edge);

export class Cursor {
  #graph;
  #camera;
  #card;
  #stage;
  #announce;
  #onChange;
  #onHover;
  #hover = null;
  #focus = null;
  #marked = null;
  #leaving = 0;
  #next = null;

  /**
   * @param {object} of
   * @param {Graph} of.graph
   * @param {Camera} of.camera
   * @param {Card} of.card
   * @param {HTMLElement} of.stage
   * @param {(text: string) => void} of.announce
   * @param {() => void} of.onChange
   * @param {(item: Item|null) => void} of.onHover the pointer came to an item, or left it.
   */
  constructor({ graph, camera, card, stage, announce, onChange, onHover }) {
    this.#graph = graph;
    this.#camera = camera;
    this.#card = card;
    this.#stage = stage;
    this.#announce = announce;
    this.#onChange = onChange;
    this.#onHover = onHover;
    /** To stand in the stage: what `aria-activedescendant` names. Nothing, while it names none. */
    this.element = h("div", { class: "ca-sr", id: fresh("ca-current"), role: "img", hidden: true });
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

  /** Gives the item that is marked because it is pointed at in another drawing, or null. */
  get marked() {
    return this.#marked;
  }

  /** Marks an item that is pointed at in another drawing; null: none. */
  mark(item) {
    if (same(this.#marked, item)) return;
    this.#marked = item;
    this.#onChange();
  }

  /**
   * Puts the pointer on an item, or on nothing. From a channel to something that is none it takes a
   * moment, `now` aside: the pointer may be on its way to the card.
   */
  hover(item, { now = false } = {}) {
    this.#next = item;
    const leaves = this.#hover?.node !== undefined && item?.node === undefined;
    if (leaves && !now) {
      this.#leaving ||= setTimeout(() => this.#arrive(), REACH_MS);
      return;
    }
    this.#arrive();
  }

  /** Keeps what the pointer came from, for it is on the card now: until it rests over a channel. */
  reach(item) {
    this.stay();
    this.#next = item;
    if (item?.node !== undefined) this.#leaving = setTimeout(() => this.#arrive(), REST_MS);
  }

  /** Follows the camera: the card stands beside what it speaks of. */
  moved() {
    if (this.item) this.#card.move(this.item);
  }

  /** Waits no longer for the pointer to be elsewhere. */
  stay() {
    clearTimeout(this.#leaving);
    this.#leaving = 0;
  }

  #arrive() {
    this.stay();
    const item = this.#next;
    if (same(this.#hover, item)) return;
    this.#hover = item;
    this.#stage.classList.toggle("ca-on", Boolean(item));
    this.#card.show(item);
    this.#onHover(item);
    this.#onChange();
  }

  /** Lets the keyboard take over: what the pointer is on counts no more. */
  release() {
    this.stay();
    this.#hover = null;
  }

  /** Puts the keyboard on an item, which comes into sight, or on nothing. */
  focus(item) {
    this.#focus = item;
    if (item) this.#meet(item);
    else {
      this.#stage.removeAttribute("aria-activedescendant");
      this.element.hidden = true;
      this.#card.show(null);
    }
    this.#onChange();
  }

  #meet(item) {
    const graph = this.#graph;
    const text = label(graph, item);
    this.element.setAttribute("aria-label", text);
    this.element.hidden = false;
    this.#stage.setAttribute("aria-activedescendant", this.element.id);
    this.#announce(text);
    const point = item.node ?? graph.end[item.edge];
    const [sx, sy] = this.#camera.toStage(graph.x[point], graph.y[point]);
    const { width, height } = this.#camera.size;
    if (sx < INSET || sy < INSET || sx > width - INSET || sy > height - INSET) {
      this.#camera.centre(graph.x[point], graph.y[point]);
    }
    this.#card.show(item);
  }
}
