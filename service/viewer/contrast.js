/**
 * How strongly each group's circuit preserves its own images and suppresses the others'.
 *
 * Preserved is the response that the circuit leaves to the group's images, over that of the whole
 * network; leaked is the same over the unit's other top images. The closer to 1 and to 0, the more
 * the groups are computed by circuits of their own.
 */

import { h } from "./dom.js";
import { groupName, percent, ratio } from "./figures.js";
import { lineChart } from "./line_chart.js";
import { table } from "./table.js";

export const groupColor = (group) => `var(--group-${group % 8})`;

/** Rows of `selectivity` -> of each group, what is preserved and what leaks, by rung. */
export function keptByGroup(rows, fractions) {
  const groups = [...new Set(rows.map((row) => row.group))].sort((a, b) => a - b);
  return groups.map((group) => {
    const values = (name) =>
      fractions.map(
        (_, rung) =>
          rows.find((row) => row.group === group && row.rung === rung)?.[name] ?? null,
      );
    return { group, own: values("preserved"), others: values("leaked") };
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
