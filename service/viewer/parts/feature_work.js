/** How far the atlas' feature visualizations are, and why some failed. */

/** @import { FeatureFailureRows } from "openapi" */

import { all, get } from "../api.js";
import { h } from "../dom.js";
import { count, whole } from "../figures.js";
import { tableFiles } from "../menu.js";
import { panel } from "../panel.js";
import { table } from "../table.js";

const COUNTS = [
  ["planned", "Planned"],
  ["done", "Done"],
  ["failed", "Failed"],
  ["missing", "Not made yet"],
  ["visualizations", "Images"],
];
const MOST_FAILURES = 20;
/** That many are told at once; more, where one asks for them. */
const FEW_FAILURES = 3;

export function featureWork() {
  return panel({
    title: "Feature visualizations",
    note: "How far the [feature visualizations|feature-visualization] of each layer are that were asked for.",
    height: "6rem",
    key: () => null,
    load: async () => {
      const found = await get(["features"]);
      const rows = found.rows.length < found.total ? await all(["features"]) : found.rows;
      const failed = rows.some((row) => row.failed);
      const failures = failed ? await get(["features", "failures"], { limit: MOST_FAILURES }) : null;
      return { ...found, rows, failures };
    },
    empty: ({ rows }) =>
      rows.length ? null : "None were asked for: `circuit-atlas features` makes them.",
    draw: ({ rows, failures }) => [
      table({
        columns: [
          { name: "layer", title: "Layer" },
          { name: "of", title: "Made for" },
          ...COUNTS.map(([name, title]) => ({ name, title, number: true })),
        ],
        rows: rows.map((row) => ({
          ...row,
          layer: h("code", null, row.layer),
          of: `${row.of}s`,
          ...Object.fromEntries(COUNTS.map(([name]) => [name, whole(row[name])])),
        })),
      }),
      failures && failed(failures),
    ],
    files: () => tableFiles(["features"]),
  });
}

/** @param {FeatureFailureRows} failures */
function failed({ rows, total }) {
  const more = total - rows.length;
  return h(
    "details",
    { class: "failures", open: total <= FEW_FAILURES },
    h("summary", null, `Why ${count(total, "visualization")} failed`),
    h(
      "ul",
      null,
      rows.map((row) =>
        h("li", null, `${row.of} ${row.name} of `, h("code", null, row.layer), `: ${row.message}`),
      ),
      more > 0 && h("li", null, `and ${whole(more)} more`),
    ),
  );
}
