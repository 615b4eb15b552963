/** Atlas: its layers with how far they are, how large circuits are and how faithful. */

/**
 * @import { AtlasFacts, DistributionRow, LayerFacts } from "openapi"
 * @import { State } from "../address.js"
 * @import { Reading } from "../reading.js"
 */

import { to } from "../address.js";
import { get } from "../api.js";
import { smallestCounts } from "../distribution.js";
import { tableFiles } from "../menu.js";
import { h, put, whenNear } from "../dom.js";
import { count, percent, ratio, responseText, whole } from "../figures.js";
import { heading } from "../heading.js";
import { histogram } from "../histogram.js";
import { lineChart } from "../line_chart.js";
import { useful } from "../live.js";
import { failure, panel, skeleton } from "../panel.js";
import { featureWork } from "../parts/feature_work.js";
import { ablationText, reading, readingBar, splitText, THRESHOLD } from "../reading.js";
import { explained } from "../term.js";

/**
 * Makes the page.
 *
 * @param {State} state
 * @param {AtlasFacts} atlas
 */
export async function atlasPage(state, atlas) {
  const bar = readingBar(atlas, { parts: ["criterion", "ablation", "split"] });
  const missing = atlas.layers.reduce((sum, layer) => sum + layer.missing, 0);
  const layers = panel({
    title: "Layers",
    note: `[Circuit] size: the number of [units|unit] whose smallest circuit with [r] ≥ ${THRESHOLD} keeps each fraction; grey: units without such a circuit. [Faithfulness]: the median r of the units, with bands for their middle 50 % and 80 %.`,
    key: () => null,
    look: (now) => reading(now, atlas),
    load: async () => atlas,
    empty: () =>
      atlas.layers.length ? null : "This atlas has no layers yet: run `circuit-atlas build`.",
    partial: () =>
      missing
        ? `${count(missing, "unit")} not computed yet: run the same build again to continue. The pages show the units that are stored.`
        : null,
    draw: (_, now) => {
      const chosen = reading(now, atlas);
      return h(
        "ul",
        { class: "layers" },
        atlas.layers.map((layer) => row(layer, chosen, atlas)),
      );
    },
    files: () => tableFiles(["layers"]),
  });
  const visualizations = featureWork();
  const element = h(
    "div",
    null,
    heading({
      title: atlas.location,
      facts: facts(atlas),
    }),
    bar.element,
    h("div", { class: "panels" }, layers.element, about(atlas), visualizations.element),
  );
  return {
    title: atlas.location,
    element,
    update(now) {
      bar.update(now);
      layers.update(now).then(() => useful("atlas"));
      visualizations.update(now);
    },
  };
}

/**
 * @param {AtlasFacts} atlas
 * @returns {Array<[string, string|Node]>}
 */
function facts(atlas) {
  const images = atlas.images;
  const parts = [
    ["scoring", images.scoring],
    ["held out", images.held_out],
    ["left out", images.left_out],
  ].filter(([, number]) => number);
  return [
    ["Model", atlas.model],
    ["Layers", whole(atlas.layers.length)],
    ["Units", whole(atlas.layers.reduce((sum, layer) => sum + layer.done + layer.dead, 0))],
    [
      "Images",
      h(
        "a",
        { href: to("images") },
        parts.map(([name, number]) => `${whole(number)} ${name}`).join(", "),
      ),
    ],
    ["Scores", atlas.criteria.join(", ")],
  ];
}

/**
 * Quantiles of r in the rows of a distribution.
 *
 * @type {("low"|"quarter"|"median"|"three_quarters"|"high")[]}
 */
const QUANTILES = ["low", "quarter", "median", "three_quarters", "high"];
/** A chart and the line under it. */
const CHART = 64;
const ROW = `calc(${CHART}px + 1.5 * var(--small))`;

const STATES = [
  ["done", "done"],
  ["dead", "dead"],
  ["failed", "failed"],
  ["missing", "not computed yet"],
];

/**
 * @param {LayerFacts} layer
 * @param {Reading} chosen
 * @param {AtlasFacts} atlas
 */
function row(layer, chosen, atlas) {
  const size = h("div", { class: "size" }, skeleton(ROW));
  const faithful = h("div", { class: "faithful" }, skeleton(ROW));
  const element = h(
    "li",
    { class: "layer-row" },
    h(
      "div",
      { class: "what" },
      h("h3", null, h("a", { href: to("layer", { layer: layer.layer }) }, layer.layer)),
      h(
        "p",
        { class: "note" },
        `${whole(layer.channels)} × ${layer.height} × ${layer.width}, ${layer.explained} · ${whole(layer.kernels)} kernels in ${count(layer.convolutions, "convolution")}`,
      ),
    ),
    progress(layer),
    size,
    faithful,
  );
  const load = async () => {
    const { criterion, ablation, split } = chosen;
    const query = { criterion, ablation, split, threshold: THRESHOLD };
    try {
      const found = await get(["layers", layer.layer, "distribution"], query);
      put(size, sizeChart(found.rows, layer));
      put(faithful, faithfulChart(found.rows, layer, chosen, atlas));
    } catch (error) {
      put(size, failure(error));
      put(faithful);
    }
  };
  if (layer.done) whenNear(element, load);
  else {
    put(size, h("p", { class: "note" }, "No circuits"));
    put(faithful);
  }
  return element;
}

/** @param {LayerFacts} layer */
function progress(layer) {
  const all = Math.max(1, layer.done + layer.dead + layer.failed + layer.missing);
  const shown = STATES.filter(([key]) => layer[key] > 0);
  return h(
    "div",
    { class: "progress" },
    h(
      "div",
      { class: "stack states", "aria-hidden": "true" },
      shown.map(([key]) => h("i", { class: key, style: { width: `${(100 * layer[key]) / all}%` } })),
    ),
    h(
      "p",
      null,
      shown.map(([key, text], at) => [
        at ? " · " : "",
        h(
          "a",
          {
            href: to("layer", {
              layer: layer.layer,
              state: key === "missing" ? "planned" : key,
            }),
          },
          `${whole(layer[key])} ${text}`,
        ),
      ]),
      shown.length === 0 && "no units yet",
    ),
  );
}

/**
 * @param {DistributionRow[]} rows
 * @param {LayerFacts} layer
 */
function sizeChart(rows, layer) {
  const { bins, none, units } = smallestCounts(rows);
  const most = bins.reduce((best, bin) => (bin.count > best.count ? bin : best), bins[0]);
  return [
    histogram({
      label: `Smallest circuits with r ≥ ${THRESHOLD} in ${layer.layer}: most often ${most.name} of the kernels; ${none} of ${count(units, "unit")} have none`,
      bins: [
        ...bins,
        { name: "none", count: none, other: true, says: `${count(none, "unit")} without one` },
      ],
      height: CHART,
      bare: true,
    }),
    h(
      "p",
      { class: "note" },
      `${whole(units - none)} of ${whole(units)} reach r ${ratio(THRESHOLD, 1)}`,
    ),
  ];
}

/**
 * @param {DistributionRow[]} rows
 * @param {LayerFacts} layer
 * @param {Reading} chosen
 * @param {AtlasFacts} atlas
 */
function faithfulChart(rows, layer, chosen, atlas) {
  const [low, quarter, median, threeQuarters, high] = QUANTILES.map((name) =>
    rows.map((row) => row[name]),
  );
  const { level } = reading({}, atlas);
  const color = "var(--series-actgrad)";
  const at = percent(atlas.fractions[level]);
  return [
    lineChart({
      label: `Median r against the kept fraction in ${layer.layer}, ${splitText(chosen.split)}: ${ratio(median[level])} at ${at}`,
      fractions: atlas.fractions,
      series: [{ name: "median", values: median, color }],
      bands: [
        { low, high, color },
        { low: quarter, high: threeQuarters, color },
      ],
      threshold: THRESHOLD,
      height: CHART,
      bare: true,
    }),
    h(
      "p",
      { class: "note" },
      `median r ${ratio(median[level])} at ${at}`,
      rows[level].silent ? `, ${count(rows[level].silent, "circuit")} silent` : "",
    ),
  ];
}

/** @param {AtlasFacts} atlas */
function about(atlas) {
  const id = "about-atlas";
  const rows = [
    ["Response explained", responseText(atlas.response)],
    ["Dropped kernels", atlas.ablations.map(ablationText).join(", or ")],
    ...(atlas.connected ? [["Kernels on dead ends", "give way to the next best that act"]] : []),
    ["Kept fractions", atlas.fractions.map(percent).join(", ")],
    ["Network's input", `${atlas.input.height} × ${atlas.input.width} pixels`],
    ["Top images of a unit", whole(atlas.top_images)],
    ["Weights, SHA-256", atlas.weights_sha256],
    ["Images, SHA-256", atlas.images_sha256],
    ["Schema", String(atlas.schema)],
    ["Built with", Object.entries(atlas.versions).map(([name, version]) => `${name} ${version}`).join(", ")],
  ];
  return h(
    "section",
    { class: "panel", "aria-labelledby": id },
    h("div", { class: "panel-head" }, h("h2", { id }, "What it was built from")),
    h("p", { class: "note" }, explained("The network, the images and the settings that decide every number of this [atlas].")),
    h(
      "dl",
      { class: "about" },
      rows.map(([name, value]) => [h("dt", null, name), h("dd", { class: value?.length > 40 ? "mono" : null }, value ?? "–")]),
    ),
  );
}
