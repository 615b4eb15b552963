/** Units as a table, with all that is stored of them. Its heads sort. */

import { change, to } from "../address.js";
import { h } from "../dom.js";
import { columnTitle, measure, percent, ratio, whole } from "../figures.js";
import { badge } from "../heading.js";
import { reading, THRESHOLD } from "../reading.js";
import { sparkline } from "../sparkline.js";
import { table } from "../table.js";
import { shot } from "./unit_cards.js";

/** Columns that come first; the others follow as the server names them. */
const FIRST = ["unit", "state", "keep", "circuit_kernels", "groups", "polysemanticity"];
const COUNTS = new Set(["unit", "kernels", "circuit_kernels", "groups"]);

/** Columns that are shown otherwise: as the link, beside the state, or as the picture. */
const DRAWN = new Set(["name", "error", "image", "image_name", "label", "feature"]);

export function unitTable(found, now, layer, atlas) {
  const stored = found.columns.filter(({ name }) => !DRAWN.has(name));
  const first = FIRST.filter((name) => stored.some((column) => column.name === name));
  const rest = stored.filter((column) => !first.includes(column.name));
  const columns = [...first.map((name) => stored.find((c) => c.name === name)), ...rest];
  const by = now.sort ?? "unit";
  const order = now.order ?? "asc";
  return table({
    caption: "Units, a row each. The heads sort.",
    columns: [
      ...columns.slice(0, 1).map((c) => ({ name: c.name, title: columnTitle(c.name), hint: c.sentence })),
      { name: "shot", title: h("span", { class: "unseen" }, "Picture") },
      ...columns.slice(1).map((c) => ({
        name: c.name,
        title: columnTitle(c.name),
        number: c.type === "number",
        hint: c.sentence,
      })),
      { name: "line", title: "r by kept fraction" },
    ],
    rows: found.rows.map((row) => ({
      ...Object.fromEntries(columns.map(({ name }) => [name, cell(name, value(row, name, atlas))])),
      unit: h("a", { href: to("unit", { layer, unit: row.name }) }, row.name),
      state: [badge(row.state), row.error && h("p", { class: "dim clip", title: row.error }, row.error)],
      shot: h("div", { class: "mini" }, shot(row, { layer, atlas })),
      line: row.r.length
        ? sparkline(atlas.fractions, row.r, { threshold: THRESHOLD, rung: reading(now, atlas).rung })
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

/** A row's value in a column; those of r stand in one list. */
function value(row, name, atlas) {
  if (!name.startsWith("r.")) return row[name];
  return row.r[atlas.fractions.indexOf(Number(name.slice(2)))];
}

function cell(name, value) {
  if (value === null || value === undefined) return "–";
  if (name === "keep") return percent(value);
  if (name.startsWith("r.")) return ratio(value);
  if (COUNTS.has(name)) return whole(value);
  if (typeof value === "number") return measure(value);
  return String(value);
}
