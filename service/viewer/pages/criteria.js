/** Criteria: what the circuits that each score chooses preserve, over the units of a layer. */

/**
 * @import { AreaRow, AtlasFacts, CostRow, CriterionRow, PairRow } from "openapi"
 * @import { State } from "../address.js"
 * @import { Column } from "../table.js"
 */

import { change, step } from "../address.js";
import { get } from "../api.js";
import { layerCrumbs } from "../crumbs.js";
import { fresh, h, put } from "../dom.js";
import { count, measure, percent, ratio, whole } from "../figures.js";
import { heading } from "../heading.js";
import { lineChart } from "../line_chart.js";
import { useful } from "../live.js";
import { tableFiles } from "../menu.js";
import { panel } from "../panel.js";
import { ablationText, criterionColor, reading, readingBar, splitText } from "../reading.js";
import { svgFile } from "../svg_file.js";
import { table } from "../table.js";

const FLOOR = "random";
const BANDS = { units: "95 % interval over units", images: "95 % interval over images" };

/**
 * Makes the page.
 *
 * @param {State} state
 * @param {AtlasFacts} atlas
 */
export async function criteriaPage(state, atlas) {
  const layer = state.layer;
  const { done } = await get(["layers", layer]);
  /** @type {readonly ["layers", string, "comparison"]} */
  const path = ["layers", layer, "comparison"];
  const bar = readingBar(atlas, { parts: ["ablation", "split", "keep"] });
  const query = (now) => ({ ablation: reading(now, atlas).ablation });
  const load = (now) => get(path, query(now));
  const files = (name) => (_, now) => tableFiles(path, { ...query(now), table: name });
  const id = fresh("band");
  const band = h(
    "select",
    { id, onchange: () => change({ band: band.value === "units" ? null : band.value }) },
    Object.entries(BANDS).map(([value, text]) => h("option", { value }, text)),
  );
  let series = [];
  const sizes = panel({
    title: "r against kept fraction",
    height: "24rem",
    note: "Median over [units|unit] of Pearson [r] between a unit's response in its circuit and in the whole network; undefined r counts as 0. The line of random is the [random floor].",
    controls: [
      h("div", { class: "field" }, h("label", { for: id, class: "unseen" }, "Bands"), band),
    ],
    key: query,
    look: (now) => [reading(now, atlas).split, reading(now, atlas).level, now.band],
    load,
    draw: (found, now) => {
      const { split, level } = reading(now, atlas);
      const rows = found.rows.filter((row) => row.split === split);
      const ends = now.band === "images" ? "images" : "units";
      band.value = ends;
      series = seriesOf(rows, atlas);
      const readout = h("div", { class: "readout" });
      const show = (at) => put(readout, values(rows, atlas, at, ends));
      show(level);
      return [
        lineChart({
          label: `Median r of ${count(found.units, "unit")} against the kept fraction, a line for each score`,
          fractions: atlas.fractions,
          series,
          bands: bandsOf(rows, atlas, ends),
          value: "median r",
          level,
          onLevel: (at) => step("keep", String(atlas.fractions[at])),
          onRead: (at) => show(at ?? level),
          height: 300,
        }),
        readout,
        found.remarks.map((remark) => h("p", { class: "note" }, remark)),
      ];
    },
    files: (_, now) => [
      ...tableFiles(path, query(now), "each size"),
      ...tableFiles(path, { ...query(now), table: "units" }, "each unit"),
      {
        label: "SVG",
        detail: "chart",
        file: () =>
          svgFile(sizes.element.querySelector(".chart svg"), {
            name: `criteria-${layer}.svg`,
            title: `Median r over units of ${layer} on ${splitText(reading(now, atlas).split)}, dropped kernels ${ablationText(reading(now, atlas).ablation)}`,
            series,
          }),
      },
    ],
  });
  const areas = panel({
    title: "Over all sizes",
    note: "Area under r over the logarithm of the kept fraction, 1 where r = 1 throughout: median over units, and 95 % intervals.",
    key: query,
    look: (now) => reading(now, atlas).split,
    load,
    draw: (found, now) => areaTable(found.areas, found.costs, reading(now, atlas).split),
    files: files("areas"),
  });
  const pairs = panel({
    title: "Two by two",
    note: "Differences of the areas unit by unit: median and 95 % intervals, and the units for which either is better.",
    key: query,
    look: (now) => reading(now, atlas).split,
    load,
    draw: (found, now) => pairTable(found.pairs, reading(now, atlas).split),
    files: files("pairs"),
  });
  const element = h(
    "div",
    null,
    heading({
      crumbs: layerCrumbs(layer),
      title: "Criteria compared",
    }),
    done && bar.element,
    done
      ? h("div", { class: "panels" }, sizes.element, areas.element, pairs.element)
      : h("p", { class: "message" }, "No unit of this layer has a circuit, so there is nothing to compare."),
  );
  return {
    title: `Criteria of ${layer}`,
    element,
    update(now) {
      if (!done) {
        useful("criteria");
        return;
      }
      bar.update(now);
      areas.update(now);
      pairs.update(now);
      sizes.update(now).then(() => useful("criteria"));
    },
  };
}

/**
 * Makes a line for each criterion; the random one is the floor of the others.
 *
 * @param {CriterionRow[]} rows
 * @param {AtlasFacts} atlas
 */
function seriesOf(rows, atlas) {
  return atlas.criteria.map((criterion) => ({
    name: criterion,
    values: atlas.fractions.map((_, level) => at(rows, criterion, level)?.median ?? null),
    color: criterionColor(criterion),
    dashed: criterion === FLOOR,
  }));
}

/**
 * @param {CriterionRow[]} rows
 * @param {AtlasFacts} atlas
 * @param {"units"|"images"} ends
 */
function bandsOf(rows, atlas, ends) {
  return atlas.criteria.map((criterion) => {
    const own = atlas.fractions.map((_, level) => at(rows, criterion, level));
    return {
      low: own.map((row) => row?.[`low_${ends}`] ?? null),
      high: own.map((row) => row?.[`high_${ends}`] ?? null),
      color: criterionColor(criterion),
    };
  });
}

/**
 * @param {CriterionRow[]} rows
 * @param {string} criterion
 * @param {number} level
 */
const at = (rows, criterion, level) =>
  rows.find((row) => row.criterion === criterion && row.level === level);

/**
 * Reads one kept fraction.
 *
 * @param {CriterionRow[]} rows
 * @param {AtlasFacts} atlas
 * @param {number} level
 * @param {"units"|"images"} ends
 */
function values(rows, atlas, level, ends) {
  return table({
    caption: `At ${percent(atlas.fractions[level])} of the kernels`,
    columns: [
      { name: "criterion", title: "Score" },
      number("median", "Median r"),
      number("interval", BANDS[ends]),
      number("best", "Best for", "Units whose r is larger than by every other score."),
      number("tied", "Tied for best", "Units whose r another score comes within .0001 of."),
      number("silent", "Silent", "Units whose circuit never fires where the network does."),
      number("acting", "Act", "Median share of the kernels kept that lie on a path of kept ones."),
    ],
    rows: atlas.criteria.map((criterion) => {
      const row = at(rows, criterion, level);
      return {
        criterion: named(criterion),
        median: ratio(row?.median),
        interval: interval(row, ends),
        best: whole(row?.best),
        tied: whole(row?.tied),
        silent: whole(row?.silent),
        acting: row?.acting === null ? "–" : percent(row?.acting),
      };
    }),
  });
}

/**
 * @param {AreaRow[]} rows
 * @param {CostRow[]} costs
 * @param {string} split
 */
function areaTable(rows, costs, split) {
  return table({
    caption: `On ${splitText(split)}`,
    columns: [
      { name: "criterion", title: "Score" },
      number("area", "Area"),
      number("units", "Over units"),
      number("images", "Over images"),
      number("best", "Best for"),
      number("tied", "Tied for best"),
      number("cost", "Seconds a unit", "Median time that choosing a unit's circuits took."),
    ],
    rows: rows
      .filter((row) => row.split === split)
      .map((row) => ({
        criterion: named(row.criterion),
        area: ratio(row.area),
        units: interval(row, "units"),
        images: interval(row, "images"),
        best: whole(row.best),
        tied: whole(row.tied),
        cost: measure(costs.find((cost) => cost.criterion === row.criterion)?.median_s),
      })),
  });
}

/**
 * @param {PairRow[]} rows
 * @param {string} split
 */
function pairTable(rows, split) {
  return table({
    caption: `On ${splitText(split)}`,
    columns: [
      { name: "pair", title: "Scores" },
      number("difference", "Difference"),
      number("units", "Over units"),
      number("images", "Over images"),
      number("better", "Better for"),
      number("worse", "Worse for"),
      number("tied", "Tied for"),
    ],
    rows: rows
      .filter((row) => row.split === split)
      .map((row) => ({
        pair: `${row.criterion} against ${row.other_criterion}`,
        difference: ratio(row.difference),
        units: interval(row, "units"),
        images: interval(row, "images"),
        better: whole(row.better),
        worse: whole(row.worse),
        tied: whole(row.tied),
      })),
  });
}

/** @returns {Column} */
const number = (name, title, hint = undefined) => ({ name, title, number: true, hint });

/** Names a criterion beside the colour of its line. */
const named = (criterion) =>
  h(
    "span",
    null,
    h("span", {
      class: criterion === FLOOR ? "swatch dashed" : "swatch",
      style: { color: criterionColor(criterion) },
      "aria-hidden": "true",
    }),
    criterion,
  );

/**
 * Writes an interval, a dash where there is none.
 *
 * @param {object|undefined} row
 * @param {"units"|"images"} ends
 */
function interval(row, ends) {
  const low = row?.[`low_${ends}`] ?? null;
  return low === null ? "–" : `${ratio(low)} to ${ratio(row[`high_${ends}`])}`;
}
