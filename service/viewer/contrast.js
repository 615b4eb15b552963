/**
 * How strongly each group's circuit preserves its own images and suppresses the others'.
 *
 * Preserved is the response that the circuit leaves to the group's images, over that of the whole
 * network; leaked is the same over the unit's other top images. The closer to 1 and to 0, the more
 * the groups are computed by circuits of their own.
 */

/** @import { SelectivityRow } from "openapi" */

import { h } from "./dom.js";
import { groupName, percent, ratio } from "./figures.js";
import { lineChart } from "./line_chart.js";
import { svgFile } from "./svg_file.js";
import { table } from "./table.js";

export const groupColor = (group) => `var(--group-${group % 8})`;

/**
 * Turns rows of `selectivity` into what each group's circuits preserve and leak, by level.
 *
 * @param {SelectivityRow[]} rows
 * @param {number[]} fractions
 */
export function keptByGroup(rows, fractions) {
  const groups = [...new Set(rows.map((row) => row.group))].sort((a, b) => a - b);
  return groups.map((group) => {
    const values = (name) =>
      fractions.map(
        (_, level) =>
          rows.find((row) => row.group === group && row.level === level)?.[name] ?? null,
      );
    return { group, own: values("preserved"), others: values("leaked") };
  });
}

/** Lists a group's two lines: what each is, and how it is drawn. */
const lines = ({ group, own, others, color = groupColor(group) }) => [
  { name: "its own images", values: own, color },
  { name: "the others'", values: others, color: "var(--ink-3)", dashed: true },
];

/** Draws one group's two lines. */
export function contrastChart(kept, { fractions, level, onLevel, measured = true, height = 150 }) {
  const name = groupName(kept.group);
  const share = shareOf(measured);
  return lineChart({
    label: `Circuit of group ${name}: ${share} that it preserves on its own images and on the others', against the kept fraction`,
    fractions,
    series: lines(kept),
    level,
    onLevel,
    height,
    value: share,
  });
}

/** Names what a circuit preserves a share of; `measured`: the circuit ran. */
export const shareOf = (measured) => (measured ? "share of the response" : "share of the score");

/** How much less of the others' images a circuit has to preserve than of its own. */
const LEAST_SELECTIVITY = 0.1;

/** Tells whether a circuit preserves others' images about as well as its own. */
export const tellsNoneApart = (own, others) => own - others < LEAST_SELECTIVITY * Math.abs(own);

/**
 * Says of which groups the circuits preserve the others' images as well as their own; null for none.
 *
 * @param {Array<{group: number, own: (number|null)[], others: (number|null)[]}>} kept
 * @param {number} level
 */
export function unselective(kept, level) {
  const names = kept
    .filter(({ own, others }) => {
      const [mine, theirs] = [own[level], others[level]];
      return mine !== null && theirs !== null && tellsNoneApart(mine, theirs);
    })
    .map(({ group }) => groupName(group));
  if (!names.length) return null;
  const [which, their] = names.length === 1 ? [`group ${names[0]}`, "its"] : [`groups ${names.join(", ")}`, "their"];
  return `At this kept fraction the circuit of ${which} preserves the others' images as well as ${their} own: it tells no sub-feature apart.`;
}

/** Offers the chart as a file. */
export const contrastFile = (drawing, kept, unit) => ({
  label: "SVG",
  detail: `group ${groupName(kept.group)}`,
  file: () =>
    svgFile(drawing, {
      name: `contrast-${unit.layer}-${unit.unit}-${groupName(kept.group)}.svg`,
      title: `Circuit of group ${groupName(kept.group)} of ${unit.layer}/${unit.unit}`,
      series: lines(kept),
    }),
});

/**
 * Draws a row of bars for each group: on its own images and on the others'.
 *
 * @param {Array<{group, own, others, level, color?: string}>} groups `level`: at which circuit.
 * @param {number[]} fractions the kept fractions.
 * @param {{measured?: boolean}} [of] whether the circuits ran.
 */
export function contrastBars(groups, fractions, { measured = true } = {}) {
  const kept = [...new Set(groups.map(({ level }) => percent(fractions[level])))].join(" and ");
  const bar = (value, color) =>
    h(
      "div",
      { class: "stack tall", "aria-hidden": "true" },
      h("i", {
        style: { width: `${Math.max(0, Math.min(100, 100 * (value ?? 0)))}%`, background: color },
      }),
    );
  return table({
    caption: `${measured ? "Share of the unit's response" : "Share of the images' scores"} that each group's circuit preserves, at ${kept} of the kernels`,
    columns: [
      { name: "group", title: "Circuit of" },
      { name: "own", title: "Its own images", number: true },
      { name: "ownBar", title: h("span", { class: "unseen" }, "as a bar") },
      { name: "others", title: "The others'", number: true },
      { name: "othersBar", title: h("span", { class: "unseen" }, "as a bar") },
    ],
    rows: groups.map(({ group, own, others, level, color = groupColor(group) }) => ({
      group: groupLabel(group, color),
      own: ratio(own[level]),
      ownBar: bar(own[level], color),
      others: ratio(others[level]),
      othersBar: bar(others[level], "var(--shared)"),
    })),
  });
}

/** Writes a group's letter in its colour. */
export const groupLabel = (group, color = groupColor(group)) =>
  h(
    "span",
    { class: "group-label", style: { color } },
    h("i", { class: "swatch area" }),
    `Group ${groupName(group)}`,
  );
