/** Units as a table, with all that is stored of them. Its heads sort. */

/**
 * @import { AtlasFacts, UnitRow, UnitRows } from "openapi"
 * @import { State } from "../address.js"
 */

import { change, to } from "../address.js";
import { h } from "../dom.js";
import { measure, percent, ratio, whole } from "../figures.js";
import { badge } from "../heading.js";
import { reading, THRESHOLD } from "../reading.js";
import { sparkline } from "../sparkline.js";
import { table } from "../table.js";
import { shot } from "./unit_cards.js";

/** Columns that come first; the others follow as the server names them. */
const FIRST = [
  "unit",
  "unit_label",
  "state",
  "fraction",
  "kernels",
  "silent",
  "groups",
  "polysemanticity",
  "label",
];
/** Where among them the r at the chosen kept fraction stands. */
const BEFORE_R = FIRST.indexOf("fraction");
const COUNTS = new Set(["unit", "reachable_kernels", "kernels", "acting", "groups"]);

/**
 * Columns that are shown in another: the name is the link, an error stands under the state, and a
 * kept fraction says its sparsity level.
 */
const WITHIN = { name: "unit", error: "state", level: "fraction" };

/** Columns that the server has as parts of a list. */
const PARTS = {
  box_top: ["box", 0],
  box_left: ["box", 1],
  box_bottom: ["box", 2],
  box_right: ["box", 3],
  position_y: ["position", 0],
  position_x: ["position", 1],
};

/**
 * Makes a table with a row for each unit.
 *
 * @param {UnitRows} found
 * @param {State} now
 * @param {string} layer
 * @param {AtlasFacts} atlas
 */
export function unitTable(found, now, layer, atlas) {
  const labelled = found.rows.some((row) => row.unit_label !== null);
  const stored = found.columns.filter(({ name }) => !(name in WITHIN) && (labelled || name !== "unit_label"));
  const chosen = `r.${reading(now, atlas).keep}`;
  const first = [...FIRST.slice(0, BEFORE_R), chosen, ...FIRST.slice(BEFORE_R)].filter((name) =>
    stored.some((column) => column.name === name),
  );
  const rest = stored.filter((column) => !first.includes(column.name));
  const columns = [...first.map((name) => stored.find((c) => c.name === name)), ...rest];
  const by = WITHIN[now.sort] ?? now.sort ?? "unit";
  const order = now.order ?? "asc";
  return table({
    caption: "Units, a row each. The heads sort.",
    columns: [
      ...columns.slice(0, 1).map((c) => ({ name: c.name, title: c.title, hint: c.sentence })),
      { name: "shot", title: h("span", { class: "unseen" }, "Image") },
      ...columns.slice(1).map((c) => ({
        name: c.name,
        title: c.title,
        number: c.type === "number",
        hint: c.sentence,
      })),
      { name: "line", title: "r by kept fraction" },
    ],
    rows: found.rows.map((row) => ({
      ...Object.fromEntries(columns.map(({ name }) => [name, cell(name, value(row, name, atlas))])),
      unit: h("a", { href: to("unit", { layer, unit: row.name }) }, row.name),
      image: row.image === null ? "–" : h("a", { href: to("image", { image: row.image, layer }) }, String(row.image)),
      state: [badge(row.state), row.error && h("p", { class: "dim clip", title: row.error }, row.error)],
      shot: h("div", { class: "mini" }, shot(row, { layer, atlas })),
      line: row.r.length
        ? sparkline(atlas.fractions, row.r, { threshold: THRESHOLD, level: reading(now, atlas).level })
        : "",
    })),
    sort: {
      by,
      order,
      choose: (name) =>
        change({
          sort: name,
          order: name === by && order === "asc" ? "desc" : "asc",
          from: null,
        }),
    },
  });
}

/**
 * Reads a row's value in a column.
 *
 * @param {UnitRow} row
 * @param {string} name
 * @param {AtlasFacts} atlas
 */
function value(row, name, atlas) {
  if (name.startsWith("r.")) return row.r[atlas.fractions.indexOf(Number(name.slice(2)))];
  if (!(name in PARTS)) return row[name];
  const [whole, index] = PARTS[name];
  return row[whole]?.[index];
}

function cell(name, value) {
  if (value === null || value === undefined) return "–";
  if (name === "fraction") return percent(value);
  if (name.startsWith("r.")) return ratio(value);
  if (name === "silent") return value ? "silent" : "no";
  if (COUNTS.has(name)) return whole(value);
  if (typeof value === "number") return measure(value);
  return String(value);
}
