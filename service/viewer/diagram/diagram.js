/**
 * Shows a circuit diagram: canvas for lines and nodes, HTML for controls, card and table.
 *
 * It sets no style attributes and makes no style elements, so it runs under
 * `script-src 'self'; style-src 'self'`. Styles are in diagram.css.
 *
 *     const diagram = new Diagram(element, data, { imageUrl, featureUrl, onSelect, onState });
 *     diagram.setState({ selection: "features.3.squeeze:7" });
 *     diagram.destroy();
 */

/** @import { Content } from "openapi" */

import { fresh, h } from "../dom.js";
import { Camera } from "./camera.js";
import { Colours } from "./colours.js";
import { Controls } from "./controls.js";
import { Foot } from "./foot.js";
import { Graph } from "./graph.js";
import { HELP } from "./keyboard.js";
import { Measures } from "./measures.js";
import { Shown } from "./shown.js";
import { Stage } from "./stage.js";
import { State } from "./state.js";
import { Table } from "./table.js";
import { label, whole } from "./words.js";

const TELL_MS = 250;

export class Diagram {
  #options;
  #graph;
  #state;
  #shown;
  #measures;
  #colours = new Colours();
  #camera;
  #stage;
  #controls;
  #foot;
  #table;
  #live = h("p", { class: "ca-sr", "aria-live": "polite" });
  #root;
  #telling = 0;
  #listening = new AbortController();
  #themed = new MutationObserver(() => this.refreshTheme());

  /**
   * @param {HTMLElement} element that holds it.
   * @param {Content} data
   * @param {object} [options]
   * @param {(image) => string} [options.imageUrl] of an image, at the size of the network's input.
   * @param {(node) => string} [options.featureUrl] of a feature visualization; node is {kind, convolution,
   *   channel, layer, unit, feature}, feature the variant's name.
   * @param {(shows: "features"|"crops") => string} [options.sheetUrl] of the images of all nodes,
   *   small, as the server's `diagram/nodes` has them.
   * @param {(item) => void} [options.onSelect] a node or kernel was isolated, or null again.
   * @param {(state) => void} [options.onState] the state changed, a quarter of a second ago at
   *   least.
   * @param {object} [options.state] to begin with, as state.js describes it.
   * @param {(node) => string|null} [options.linkTo] address of a page about a node.
   * @param {(name: string|null) => void} [options.onHover] the pointer came to a node or kernel of
   *   that name, or left it.
   * @param {string} [options.wheel] "focus": the wheel zooms only where the drawing has the focus,
   *   so that pages scroll.
   */
  constructor(element, data, options = {}) {
    this.#options = options;
    this.#graph = new Graph(data);
    this.#state = new State(this.#graph);
    this.#shown = new Shown(this.#graph);
    this.#measures = new Measures(this.#graph);
    this.#camera = new Camera(data, () => this.#moved());
    this.#build(element);
    this.#colours.read();
    this.#followTheme();
    this.#stage.resize();
    this.#state.change(options.state ?? {});
    this.#apply({ zoom: 0, table: 0, selection: 0 });
  }

  /** Gives the state as it is now, as state.js describes it. */
  get state() {
    return this.#state.plain;
  }

  /** Counts the kernels drawn now, by fraction and by what is hidden. */
  get shown() {
    return this.#shown.count;
  }

  /** Gives what a figure of it is to be like, as the server's `diagram.svg` takes it. */
  get look() {
    return this.#state.look;
  }

  /** Marks a node or kernel by name, because it is pointed at in another drawing; null: none. */
  mark(name) {
    this.#stage.mark(this.#graph.itemNamed(name));
  }

  /** Changes what is given and leaves the rest; null or undefined takes a key back. */
  setState(given, { quiet = false } = {}) {
    const changes = this.#state.change(given);
    if (!Object.keys(changes).length) return;
    this.#apply(changes);
    if (!quiet) this.#tell();
  }

  /** Moves everything into the middle, as large as fits. */
  fit() {
    this.#state.change({ zoom: null });
    this.#camera.show(null);
    this.#stage.redraw();
    this.#tell();
  }

  /**
   * Reads the colours anew, as it does by itself where the system's or the page's theme changes.
   */
  refreshTheme() {
    this.#colours.read();
    this.#stage.redraw();
  }

  destroy() {
    this.#listening.abort();
    this.#themed.disconnect();
    this.#stage.stop();
    clearTimeout(this.#telling);
    this.#root.remove();
  }

  #build(host) {
    const help = h("p", { class: "ca-sr", id: fresh("ca-help") }, HELP);
    const model = {
      graph: this.#graph,
      shown: this.#shown,
      measures: this.#measures,
      camera: this.#camera,
      colours: this.#colours,
    };
    const fit = () => this.fit();
    const reset = () => {
      if (this.#state.selection) this.#select(null);
    };
    this.#stage = new Stage(model, {
      helpId: help.id,
      options: this.#options,
      actions: {
        pick: (item) => this.#toggle(item),
        reset,
        fit,
        announce: (text) => this.#announce(text),
      },
      signal: this.#listening.signal,
    });
    this.#controls = new Controls(this.#graph, {
      onChange: (changes) => this.setState(changes),
      onHide: (part, hidden) => this.setState(this.#state.hiding(part, hidden)),
      onZoom: (factor) => this.#camera.zoomBy(factor),
      onFit: fit,
      onReset: reset,
    });
    this.#foot = new Foot(this.#graph);
    this.#table = new Table({
      ...model,
      onToggle: (open) => {
        if (open !== this.#state.table) this.setState({ table: open ? 1 : null });
      },
    });
    this.#root = h(
      "section",
      { class: "ca-diagram" },
      this.#controls.element,
      this.#stage.element,
      this.#foot.element,
      this.#table.element,
      help,
      this.#live,
      this.#colours.element,
    );
    host.append(this.#root);
  }

  #followTheme() {
    this.#themed.observe(document.documentElement, { attributeFilter: ["data-theme", "class"] });
    globalThis
      .matchMedia("(prefers-color-scheme: dark)")
      .addEventListener("change", () => this.refreshTheme(), { signal: this.#listening.signal });
  }

  #apply(changes) {
    const state = this.#state;
    this.#controls.show(state);
    this.#measures.set(state);
    if ("zoom" in changes) this.#camera.show(state.zoom);
    if ("table" in changes) this.#table.open = state.table;
    this.#shown.filter(state.level, state.hidden);
    const hiding = state.hidden.size > 0 || this.#graph.itemNamed(state.selection) !== null;
    this.#foot.tell(this.#shown.count, this.#graph.data.levels[state.level], hiding);
    this.#root.dataset.shown = String(this.#shown.count);
    if ("selection" in changes || "fraction" in changes || "hide" in changes) {
      this.#isolate();
      this.#table.refresh();
    }
    this.#stage.redraw();
  }

  /** Tells where the reader is, once they have rested. */
  #tell() {
    clearTimeout(this.#telling);
    this.#telling = setTimeout(() => this.#options.onState?.(this.state), TELL_MS);
  }

  #announce(text) {
    this.#live.textContent = text;
  }

  #moved() {
    this.#state.change({ zoom: this.#camera.text });
    this.#stage.moved();
    this.#tell();
  }

  #isolate() {
    const item = this.#graph.itemNamed(this.#state.selection);
    this.#shown.isolate(item);
    this.#controls.resettable = item !== null;
    this.#stage.showChosen(item, this.#shown.isolated);
  }

  #toggle(item) {
    const name = this.#graph.nameOf(item);
    this.#select(this.#state.selection === name ? null : name);
  }

  /**
   * Isolates a node or a kernel by name: only what is up or down its paths stays. Null: nothing.
   */
  #select(name) {
    this.setState({ selection: name });
    const item = this.#graph.itemNamed(name);
    this.#options.onSelect?.(item && this.#graph.describe(item));
    this.#announce(
      item
        ? `Isolated: ${label(this.#graph, item)}. ${whole(this.#shown.isolated)} kernels.`
        : "All kernels shown",
    );
  }
}
