/** How well a unit's circuits preserve its response, against how many kernels they keep. */

/**
 * @import { AtlasFacts, FaithfulnessRow } from "openapi"
 * @import { Reading } from "../reading.js"
 */

import { change, step } from "../address.js";
import { all, unitPath } from "../api.js";
import { fresh, h, put } from "../dom.js";
import { percent, ratio, whole } from "../figures.js";
import { lineChart } from "../line_chart.js";
import { tableFiles } from "../menu.js";
import { panel } from "../panel.js";
import { ablationText, criterionColor, reading, splitText, THRESHOLD } from "../reading.js";
import { svgFile } from "../svg_file.js";
import { table } from "../table.js";

const METRICS = {
  pearson: "Pearson r",
  spearman: "Spearman's r",
  pearson_images: "r over images",
  firing: "Share of positions where it fires",
  acting: "Share of its kernels that act",
  relative_l1: "Relative L1 distance",
  auc: "AUC of the class",
};
/** Those that a threshold of r is drawn for. */
const CORRELATIONS = new Set(["pearson", "spearman", "pearson_images"]);

/**
 * Makes the panel of faithfulness.
 *
 * @param {AtlasFacts} atlas
 * @param {{layer: string, unit: string}} of
 */
export function faithfulness(atlas, { layer, unit }) {
  const id = fresh("metric");
  const metric = h(
    "select",
    { id, onchange: () => change({ metric: metric.value === "pearson" ? null : metric.value }) },
    Object.entries(METRICS).map(([value, text]) => h("option", { value }, text)),
  );
  const asTable = h(
    "button",
    {
      class: "button",
      type: "button",
      onclick: () => change({ chart: asTable.getAttribute("aria-pressed") === "true" ? null : "table" }),
    },
    "Table",
  );
  let drawn = null;
  let series = [];
  const made = panel({
    title: "Faithfulness against kept fraction",
    note: "How much of the unit's response its [circuits|circuit] keep, against how many [kernels|kernel] they keep: solid on [held-out images], dashed on [scoring images]. A circuit says something where it is above the [random floor]; a gap in that line is an undefined [r].",
    width: "half",
    height: "19rem",
    controls: [
      h("div", { class: "field" }, h("label", { for: id, class: "unseen" }, "Measure"), metric),
      asTable,
    ],
    key: () => null,
    look: (now) => [reading(now, atlas), now.metric, now.chart],
    load: () => all(unitPath(layer, unit, "faithfulness")),
    empty: (rows) => (rows.length ? null : "This unit has no circuits, so nothing is measured."),
    draw: (rows, now) => {
      const chosen = reading(now, atlas);
      const tells = rows.some((row) => row.auc_full !== null);
      metric.querySelector("[value=auc]").toggleAttribute("hidden", !tells);
      const name = now.metric in METRICS && (tells || now.metric !== "auc") ? now.metric : "pearson";
      metric.value = name;
      asTable.setAttribute("aria-pressed", String(now.chart === "table"));
      series = seriesOf(rows, atlas, chosen, name);
      drawn = now.chart === "table" ? null : chart(series, atlas, chosen, name, rows);
      return drawn ?? wholeTable(series, atlas, name);
    },
    files: (_, now) => [
      ...tableFiles(unitPath(layer, unit, "faithfulness")),
      ...(drawn
        ? [
            {
              label: "SVG",
              detail: "chart",
              file: () =>
                svgFile(drawn.querySelector("svg"), {
                  name: `faithfulness-${layer}-${unit}.svg`,
                  title: `Circuits of ${layer}/${unit}, dropped kernels ${ablationText(reading(now, atlas).ablation)}`,
                  series,
                }),
            },
          ]
        : []),
    ],
  });
  return made;
}

/**
 * Makes a line for each criterion and split, of the chosen ablation.
 *
 * @param {FaithfulnessRow[]} rows
 * @param {AtlasFacts} atlas
 * @param {Reading} chosen
 * @param {string} metric
 */
function seriesOf(rows, atlas, chosen, metric) {
  const kept = rows.filter((row) => row.ablation === chosen.ablation);
  return atlas.criteria.flatMap((criterion) =>
    atlas.splits.map((split) => {
      const values = atlas.fractions.map(() => null);
      const silent = atlas.fractions.map(() => false);
      for (const row of kept) {
        if (row.criterion !== criterion || row.split !== split) continue;
        values[row.level] = metric === "acting" ? actingShare(row) : row[metric];
        silent[row.level] = row.firing === 0 && row.firing_full > 0;
      }
      return {
        silent,
        name: `${criterion}, ${splitText(split)}`,
        criterion,
        split,
        values,
        color: criterionColor(criterion),
        dashed: split !== "held_out",
        faint: split !== chosen.split && criterion !== chosen.criterion,
      };
    }),
  );
}

/**
 * @param {ReturnType<typeof seriesOf>} series
 * @param {AtlasFacts} atlas
 * @param {Reading} chosen
 * @param {string} metric
 * @param {FaithfulnessRow[]} rows
 */
function chart(series, atlas, chosen, metric, rows) {
  const readout = h("div", { class: "readout" });
  const kernels = (level) => rows.find((row) => row.level === level)?.kernels;
  const show = (level) => put(readout, values(series, atlas, chosen, level, kernels(level)));
  show(chosen.level);
  const best = smallest(rows, chosen);
  const network = rows.find((row) => row.split === chosen.split)?.auc_full ?? undefined;
  return h(
    "div",
    null,
    h(
      "div",
      { class: "read-chart" },
      lineChart({
        label: `${METRICS[metric]} against the kept fraction, a line for each score and image set`,
        fractions: atlas.fractions,
        series,
        value: METRICS[metric],
        threshold: metric === "auc" ? network : CORRELATIONS.has(metric) ? THRESHOLD : undefined,
        crossed: metric === "auc" ? "whole network" : undefined,
        level: chosen.level,
        onLevel: (level) => step("keep", String(atlas.fractions[level])),
        onRead: (level) => show(level ?? chosen.level),
        height: 280,
      }),
      readout,
    ),
    h(
      "p",
      { class: "note" },
      best
        ? `The smallest stored circuit by ${chosen.criterion} with r ≥ ${THRESHOLD} on ${splitText(chosen.split)} keeps ${percent(best.fraction)}, ${whole(best.kernels)} kernels.`
        : `No stored circuit by ${chosen.criterion} reaches r ${THRESHOLD} on ${splitText(chosen.split)}.`,
      metric === "auc" && network !== undefined
        ? ` The whole network tells the class with an AUC of ${ratio(network, 3)} there.`
        : "",
      atlas.criteria.includes("random")
        ? ""
        : " This atlas has no random circuits to compare with: add random to the criteria of the spec.",
    ),
  );
}

/**
 * Divides the kernels on a path of kept ones, from the image to the unit, by all that are kept.
 *
 * @param {FaithfulnessRow} row
 */
const actingShare = ({ acting, kernels }) => (acting === null ? null : acting / kernels);

/**
 * Finds the smallest circuit that reaches the threshold, as circuits are read now.
 *
 * @param {FaithfulnessRow[]} rows
 * @param {Reading} chosen
 */
function smallest(rows, { criterion, ablation, split }) {
  return rows
    .filter(
      (row) =>
        row.criterion === criterion &&
        row.ablation === ablation &&
        row.split === split &&
        (row.pearson ?? 0) >= THRESHOLD,
    )
    .reduce((best, row) => (best === null || row.kernels < best.kernels ? row : best), null);
}

/**
 * @param {ReturnType<typeof seriesOf>} series
 * @param {AtlasFacts} atlas
 * @param {Reading} chosen
 * @param {number} level
 * @param {number} kernels
 */
function values(series, atlas, chosen, level, kernels) {
  return table({
    caption: `At ${percent(atlas.fractions[level])}: ${whole(kernels)} kernels`,
    columns: [
      { name: "criterion", title: "Score" },
      ...atlas.splits.map((split) => ({
        name: split,
        title: h(
          "span",
          null,
          h("i", { class: `swatch ${split === "held_out" ? "" : "dashed"}` }),
          split === "held_out" ? "held-out" : split,
        ),
        number: true,
      })),
    ],
    rows: atlas.criteria.map((criterion) => ({
      criterion: h(
        "span",
        { class: criterion === chosen.criterion ? "strong" : null },
        h("i", { class: "swatch", style: { color: criterionColor(criterion) } }),
        criterion === "random" ? "random, the floor" : criterion,
      ),
      ...Object.fromEntries(
        series
          .filter((one) => one.criterion === criterion)
          .map((one) => [one.split, told(one, level, 2)]),
      ),
    })),
  });
}

/**
 * @param {ReturnType<typeof seriesOf>} series
 * @param {AtlasFacts} atlas
 * @param {string} metric
 */
function wholeTable(series, atlas, metric) {
  return table({
    caption: `${METRICS[metric]} by kept fraction`,
    columns: [
      { name: "fraction", title: "Kept" },
      ...series.map((one) => ({ name: one.name, title: one.name, number: true })),
    ],
    rows: atlas.fractions.map((fraction, level) => ({
      fraction: percent(fraction),
      ...Object.fromEntries(series.map((one) => [one.name, told(one, level, 3)])),
    })),
  });
}

/**
 * Writes a measure of a circuit, or that it never fires where the whole network does.
 *
 * @param {ReturnType<typeof seriesOf>[number]} one
 * @param {number} level
 * @param {number} digits
 */
function told(one, level, digits) {
  return one.silent[level] ? "silent" : ratio(one.values[level], digits);
}
