/** Makes the sliders, boxes and buttons above the drawing, which say how it is drawn. */

/** @import { Graph } from "./graph.js" */

import { fresh, h } from "../dom.js";
import { whole } from "./words.js";

const COLOURS = { excitation: "excite", inhibition: "inhibit" };

export class Controls {
  #graph;
  #onChange;
  #onHide;
  #kept = h("output", { class: "ca-value" });
  #level;
  #sizes;
  #parts;
  #imageChoice;
  #reset;

  /**
   * @param {Graph} graph
   * @param {object} actions
   * @param {(changes: object) => void} actions.onChange of the state.
   * @param {(part: string, hidden: boolean) => void} actions.onHide
   * @param {(factor: number) => void} actions.onZoom
   * @param {() => void} actions.onFit
   * @param {() => void} actions.onReset
   */
  constructor(graph, { onChange, onHide, onZoom, onFit, onReset }) {
    this.#graph = graph;
    this.#onChange = onChange;
    this.#onHide = onHide;
    this.#level = this.#levelSlider();
    this.#sizes = { nodes: this.#size("nodes", "Nodes"), kernels: this.#size("kernels", "Kernels") };
    this.#parts = this.#partBoxes();
    this.#imageChoice = this.#imageChoices();
    this.#reset = button("Show all kernels again", "Reset", onReset);
    this.element = h(
      "div",
      { class: "ca-controls", role: "group", "aria-label": "How the diagram is drawn" },
      h(
        "label",
        { class: "ca-control ca-kept", hidden: graph.data.levels.length < 2 },
        h("span", null, "Kept"),
        this.#level,
        this.#kept,
      ),
      h("label", { class: "ca-control" }, h("span", null, "Nodes"), this.#sizes.nodes),
      h("label", { class: "ca-control" }, h("span", null, "Kernels"), this.#sizes.kernels),
      this.#parts,
      this.#imageChoice,
      h(
        "div",
        { class: "ca-buttons" },
        button("Zoom out", "−", () => onZoom(1 / 1.4)),
        button("Zoom in", "+", () => onZoom(1.4)),
        button("Show all of it", "Fit", onFit),
        this.#reset,
      ),
    );
  }

  /** Makes a slider through the kept fractions, the largest at the right. */
  #levelSlider() {
    const { levels } = this.#graph.data;
    const last = levels.length - 1;
    const input = h("input", {
      type: "range",
      min: "0",
      max: String(last),
      step: "1",
      value: String(last),
      "aria-label": "Kept fraction",
      oninput: () => {
        const level = last - Number(input.value);
        this.#onChange({ fraction: level ? levels[level].fraction : null });
      },
    });
    return input;
  }

  #size(name, label) {
    const input = h("input", {
      type: "range",
      min: "-2",
      max: "2",
      step: "0.1",
      value: "0",
      "aria-label": label,
      oninput: () => {
        const value = Number((2 ** Number(input.value)).toFixed(2));
        this.#onChange({ [name]: value === 1 ? null : value });
      },
    });
    return input;
  }

  #partBoxes() {
    const boxes = this.#partsThere().map(([part, label]) =>
      h(
        "label",
        { class: `ca-part ca-c-${COLOURS[part] ?? part}` },
        h("input", {
          type: "checkbox",
          value: part,
          checked: true,
          onchange: (event) => this.#onHide(part, !event.target.checked),
        }),
        h("i", null),
        h("span", null, label),
      ),
    );
    return h("fieldset", { class: "ca-parts" }, h("legend", null, "Kernels drawn"), boxes);
  }

  /** Lists what can be hidden: the sides of two circuits, or the signs of one. */
  #partsThere() {
    if (this.#graph.twoSides) {
      return [["shared", "Shared"], ["left", "Only left"], ["right", "Only right"]];
    }
    const parts = [["excitation", "Excitation"], ["inhibition", "Inhibition"]];
    if (this.#graph.sign.includes(0)) parts.push(["unknown", "No sign"]);
    return parts;
  }

  #imageChoices() {
    const { featured, cropped } = this.#graph;
    /** @type {[string, string, boolean][]} */
    const all = [
      ["crops", "Crops", cropped],
      ["features", "Features", featured],
      ["both", "Both", featured && cropped],
      ["none", "None", featured || cropped],
    ];
    const choices = all.filter(([, , there]) => there);
    const name = fresh("ca-images"); // one for the group: the arrow keys go through it
    const radios = choices.map(([value, label]) =>
      h(
        "label",
        null,
        h("input", {
          type: "radio",
          name,
          value,
          onchange: () => this.#onChange({ images: value }),
        }),
        h("span", null, label),
      ),
    );
    return h(
      "fieldset",
      { class: "ca-choice", hidden: choices.length < 2 },
      h("legend", null, "Images"),
      radios,
    );
  }

  /** Shows a state. */
  show(state) {
    const { levels } = this.#graph.data;
    const level = levels[state.level];
    const kept = `${Number((100 * level.fraction).toPrecision(3))} %`;
    this.#level.value = String(levels.length - 1 - state.level);
    this.#level.setAttribute("aria-valuetext", `${kept}, ${whole(level.kernels)} kernels`);
    this.#kept.textContent = kept;
    for (const [name, input] of Object.entries(this.#sizes)) {
      input.value = String(Math.log2(state[name]));
    }
    const { hidden, images } = state;
    for (const box of this.#parts.querySelectorAll("input")) {
      box.checked = !hidden.has(box.value);
    }
    for (const radio of this.#imageChoice.querySelectorAll("input")) {
      radio.checked = radio.value === images;
    }
  }

  /** Says whether there is something to reset. */
  set resettable(can) {
    this.#reset.disabled = !can;
  }
}

function button(label, text, action) {
  return h("button", { type: "button", "aria-label": label, title: label, onclick: action }, text);
}
