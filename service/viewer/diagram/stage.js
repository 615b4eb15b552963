/** Makes the stage, where the circuit is drawn and pointed at. */

import { h } from "../dom.js";
import { Bands } from "./bands.js";
import { Card } from "./card.js";
import { Chosen } from "./chosen.js";
import { Cursor } from "./cursor.js";
import { Finder } from "./finder.js";
import { Keyboard } from "./keyboard.js";
import { Lines } from "./lines.js";
import { Names } from "./names.js";
import { Nodes } from "./nodes.js";
import { Overlay } from "./overlay.js";
import { Painter } from "./painter.js";
import { NodeImages } from "./node_images.js";
import { Pointer } from "./pointer.js";
import { Weights } from "./weights.js";

export class Stage {
  #camera;
  #painter;
  #chosen;
  #cursor;
  #sized;

  /**
   * @param {object} model what is drawn: `graph`, `shown`, `measures`, `camera` and `colours`.
   * @param {object} of
   * @param {string} of.helpId of the element that says what the keys do.
   * @param {object} of.options as of a diagram: `imageUrl`, `featureUrl`, `sheetUrl`, `linkTo`,
   *   `onHover` and `wheel`.
   * @param {object} of.actions `pick(item)`, `reset()`, `fit()` and `announce(text)`.
   * @param {AbortSignal} of.signal until then it listens.
   */
  constructor(model, { helpId, options, actions, signal }) {
    const { graph, camera } = model;
    this.#camera = camera;
    this.element = h("div", {
      class: "ca-stage",
      tabindex: "0",
      role: "application",
      "aria-label": `Circuit diagram of ${graph.data.title}`,
      "aria-describedby": helpId,
    });
    const { imageUrl, featureUrl, sheetUrl } = options;
    const onSettled = () => this.#painter.gained();
    const nodeImages = new NodeImages(graph, { imageUrl, featureUrl, sheetUrl, onSettled });
    const marks = {
      bands: new Bands(model),
      lines: new Lines(model),
      nodes: new Nodes({ ...model, nodeImages }),
      weights: new Weights(model),
      names: new Names(model),
    };
    const card = new Card({ ...model, nodeImages, weights: marks.weights, linkTo: options.linkTo });
    const cursor = new Cursor({
      graph,
      camera,
      card,
      stage: this.element,
      announce: actions.announce,
      onChange: () => this.#painter.refresh(),
      onHover: (item) => options.onHover?.(item && graph.nameOf(item)),
    });
    this.#cursor = cursor;
    const overlay = new Overlay({ ...model, parts: marks });
    this.#painter = new Painter({
      ...model,
      parts: { ...marks, overlay },
      cursor,
      onBusy: (busy) => this.element.toggleAttribute("data-busy", busy || nodeImages.waiting > 0),
    });
    this.#chosen = new Chosen(graph, {
      linkTo: options.linkTo,
      onBack: () => {
        actions.reset();
        this.element.focus();
      },
    });
    this.element.append(
      ...this.#painter.elements,
      h("p", { class: "ca-note", hidden: !graph.data.note }, graph.data.note),
      cursor.element,
      this.#chosen.element,
      card.element,
    );
    this.#listen(model, { cursor, actions, wheel: options.wheel, signal });
  }

  #listen(model, { cursor, actions, wheel, signal }) {
    const stage = this.element;
    const { camera } = model;
    const finder = new Finder(model);
    new Pointer({
      stage,
      camera,
      find: (x, y) => finder.find(x, y),
      onHover: (...found) => cursor.hover(...found),
      onCard: (item) => cursor.reach(item),
      onPick: (item) => (item ? actions.pick(item) : actions.reset()),
      onlyFocused: wheel === "focus",
      signal,
    });
    new Keyboard({ ...model, stage, cursor, actions, signal });
    this.#sized = new ResizeObserver(() => this.resize());
    this.#sized.observe(stage);
  }

  /** Takes the size that the page gives it; to be called once it stands there. */
  resize() {
    const box = this.element.getBoundingClientRect();
    const ratio = Math.min(2, globalThis.devicePixelRatio || 1);
    const size = { width: Math.max(1, box.width), height: Math.max(1, box.height), ratio };
    if (this.#camera.resize(size)) this.#painter.resized();
  }

  /** Draws anew, since something else is to be seen. */
  redraw() {
    this.#painter.redraw();
  }

  /** Follows the camera, which has moved. */
  moved() {
    this.#painter.moved();
    this.#cursor.moved();
  }

  /** Names what is isolated, with `kernels` on its paths; null: nothing is. */
  showChosen(item, kernels) {
    this.#chosen.show(item, kernels);
  }

  /** Marks an item that is pointed at in another drawing; null: none. */
  mark(item) {
    this.#cursor.mark(item);
  }

  /** Draws no more. */
  stop() {
    this.#cursor.stay();
    this.#sized.disconnect();
    this.#painter.stop();
  }
}
