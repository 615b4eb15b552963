/**
 * How strongly each group's circuit preserves its own images and suppresses the others'.
 *
 * Of a group's circuit on an image, what is left of the unit's response is response / full. A group
 * preserves the mean of that over its own images, and what it lets through of the others is the mean
 * over theirs. The closer to 1 and to 0, the more the two are computed by circuits of their own.
 */

import { h } from "./dom.js";
import { groupName, percent, ratio } from "./figures.js";
import { lineChart } from "./line_chart.js";
import { table } from "./table.js";

export const groupColor = (group) => `var(--group-${group % 8})`;

/** Stored rows -> of each group, what is kept of its own and of the others' responses, by rung. */
export function keptByGroup(rows, fractions) {
  const groups = [...new Set(rows.map((row) => row.group))].sort((a, b) => a - b);
  return groups.map((group) => {
    const mean = (inside, rung) => {
      const of = rows.filter(
        (row) => row.group === group && row.rung === rung && row.inside === inside && row.full,
      );
      return of.length ? of.reduce((sum, row) => sum + row.response / row.full, 0) / of.length : null;
    };
    return {
      group,
      own: fractions.map((_, rung) => mean(true, rung)),
      others: fractions.map((_, rung) => mean(false, rung)),
    };
  });
}

/** One group's two lines. */
export function contrastChart({ group, own, others }, { fractions, rung, onRung, height = 150 }) {
  const color = groupColor(group);
  const name = groupName(group);
  return lineChart({
    label: `Circuit of group ${name}: share of the response that is left on its own images and on the others', against the kept fraction`,
    fractions,
    series: [
      { name: "its own images", values: own, color },
      { name: "the others'", values: others, color: "var(--ink-3)", dashed: true },
    ],
    rung,
    onRung,
    height,
  });
}

/** Bars at one rung: a row a group, its own images and the others'. */
export function contrastBars(groups, { fraction, rung }) {
  const bar = (value, color) =>
    h(
      "div",
      { class: "stack tall", "aria-hidden": "true" },
      h("i", {
        style: { width: `${Math.max(0, Math.min(100, 100 * (value ?? 0)))}%`, background: color },
      }),
    );
  return table({
    caption: `Share of the unit's response that each group's circuit leaves, at ${percent(fraction)} of the kernels`,
    columns: [
      { name: "group", title: "Circuit of" },
      { name: "own", title: "Its own images", number: true },
      { name: "ownBar", title: h("span", { class: "unseen" }, "as a bar") },
      { name: "others", title: "The others'", number: true },
      { name: "othersBar", title: h("span", { class: "unseen" }, "as a bar") },
    ],
    rows: groups.map(({ group, own, others }) => ({
      group: groupLabel(group),
      own: ratio(own[rung]),
      ownBar: bar(own[rung], groupColor(group)),
      others: ratio(others[rung]),
      othersBar: bar(others[rung], "var(--shared)"),
    })),
  });
}

/** A group's letter in its colour. */
export const groupLabel = (group) =>
  h(
    "span",
    { class: "group-label", style: { color: groupColor(group) } },
    h("i", { class: "swatch area" }),
    `Group ${groupName(group)}`,
  );
