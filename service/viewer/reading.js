/** How circuits are read: which criterion, ablation, images and kept fraction. On every page. */

/**
 * @import { AtlasFacts } from "openapi"
 * @import { State } from "./address.js"
 */

import { change, step } from "./address.js";
import { fresh, h, put } from "./dom.js";
import { count, kernelsKept, percent } from "./figures.js";

const SPLITS = { held_out: "held-out images", scoring: "scoring images" };
const ABLATIONS = { zero: "set to zero", mean: "set to their mean" };
const DEFAULT_KEEP = 0.1;

/** The share of r that a circuit is said to reach. */
export const THRESHOLD = 0.9;

/**
 * How circuits are read; `level`: the index of `keep` among the atlas' fractions.
 *
 * @typedef {{criterion: string, ablation: string, split: string, keep: number, level: number}} Reading
 */

/**
 * Reads what the state says, with the atlas' defaults where it says nothing.
 *
 * @param {State} state
 * @param {Pick<AtlasFacts, "criteria"|"ablations"|"splits"|"fractions">} atlas
 * @returns {Reading}
 */
export function reading(state, atlas) {
  const one = (value, known) => (known.includes(value) ? value : known[0]);
  const wanted = Number(state.keep) > 0 ? Math.min(1, Number(state.keep)) : DEFAULT_KEEP;
  // As the server finds it: nearest in ratio, ties to the smaller, which comes later.
  const far = (fraction) => Number(Math.abs(Math.log(fraction / wanted)).toFixed(9));
  const level = atlas.fractions.reduce(
    (best, fraction, at) => (far(fraction) <= far(atlas.fractions[best]) ? at : best),
    0,
  );
  return {
    criterion: one(state.criterion, atlas.criteria),
    ablation: one(state.ablation, atlas.ablations),
    split:
      atlas.splits.find((split) => split === state.split) ??
      atlas.splits.find((split) => split === "held_out") ??
      atlas.splits[0],
    keep: atlas.fractions[level],
    level,
  };
}

/** The colour of a criterion's lines. */
export const criterionColor = (criterion) => `var(--series-${criterion}, var(--series-other))`;
export const splitText = (split) => SPLITS[split] ?? split;
export const ablationText = (ablation) => ABLATIONS[ablation] ?? ablation;

/**
 * Makes the bar in which one chooses how circuits are read.
 *
 * @param {AtlasFacts} atlas
 * @param {{kernels?: number, parts?: string[]}} options `kernels` that can reach the unit, to say
 *   how many a fraction is; `parts` shown: criterion, ablation, split, keep.
 */
export function readingBar(atlas, { kernels, parts = ["criterion", "ablation", "split", "keep"] } = {}) {
  const bar = h("div", { class: "reading", role: "group", "aria-label": "How circuits are read" });
  const controls = {
    criterion: () => choice("Score", "criterion", atlas.criteria.map((name) => [name, name])),
    ablation: () =>
      choice("Dropped kernels", "ablation", atlas.ablations.map((a) => [a, ablationText(a)])),
    split: () => choice("Measured on", "split", atlas.splits.map((x) => [x, splitText(x)])),
    keep: () => keepSlider(atlas.fractions, kernels),
  };
  const made = parts.map((part) => [part, controls[part]()]);
  put(bar, made.map(([, control]) => control.element));
  return {
    element: bar,
    update(state) {
      const now = reading(state, atlas);
      for (const [part, control] of made) control.show(now[part]);
    },
  };
}

function choice(label, key, options) {
  const id = fresh(key);
  const select = h(
    "select",
    { id, onchange: () => change({ [key]: select.value }) },
    options.map(([value, text]) => h("option", { value }, text)),
  );
  select.disabled = options.length < 2;
  return {
    element: h("div", { class: "field" }, h("label", { for: id }, label), select),
    show: (value) => {
      select.value = value;
    },
  };
}

/** Makes a slider over the stored fractions, the smallest at the left. */
function keepSlider(fractions, kernels) {
  const rising = [...fractions].sort((a, b) => a - b);
  const id = fresh("keep");
  const output = h("output", { for: id });
  const say = (fraction) => {
    const kept = kernels ? ` · ${count(kernelsKept(fraction, kernels), "kernel")}` : "";
    return percent(fraction) + kept;
  };
  const range = h("input", {
    type: "range",
    id,
    min: 0,
    max: rising.length - 1,
    step: 1,
    oninput: () => {
      const fraction = rising[Number(range.value)];
      show(fraction);
      step("keep", String(fraction));
    },
  });
  const show = (fraction) => {
    range.value = String(rising.indexOf(fraction));
    range.setAttribute("aria-valuetext", say(fraction));
    output.textContent = say(fraction);
  };
  return {
    element: h("div", { class: "field keep" }, h("label", { for: id }, "Kept"), range, output),
    show,
  };
}
