/** Tables: of data, of what a chart shows, and with heads that sort. */

import { fresh, h } from "./dom.js";

/** @typedef {{name: string, title: string|Node, number?: boolean, hint?: string}} Column */

/**
 * Makes a table.
 *
 * @param {object} of
 * @param {string} [of.caption]
 * @param {Column[]} of.columns
 * @param {Array<object>} of.rows values by column name: text, number or node.
 * @param {{by: string, order: string, choose: (name: string) => void}} [of.sort]
 * @param {(row: object) => object|null} [of.row] properties of its `tr`.
 */
export function table({ caption, columns, rows, sort, row = () => null }) {
  const id = fresh("table");
  return h(
    "div",
    { class: "table", role: "region", tabindex: "0", "aria-labelledby": caption ? id : null, "aria-label": caption ? null : "Table" },
    h(
      "table",
      null,
      caption && h("caption", { id }, caption),
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          columns.map((column) => head(column, sort)),
        ),
      ),
      h(
        "tbody",
        null,
        rows.map((values) =>
          h(
            "tr",
            row(values),
            columns.map((column, at) =>
              h(
                at === 0 ? "th" : "td",
                { scope: at === 0 ? "row" : null, class: column.number ? "number" : null },
                values[column.name] ?? "–",
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

/**
 * @param {Column} column
 * @param {{by: string, order: string, choose: (name: string) => void}} [sort]
 */
function head({ name, title, number, hint }, sort) {
  const active = sort && sort.by === name;
  const arrow = active ? (sort.order === "asc" ? " ↑" : " ↓") : "";
  return h(
    "th",
    {
      scope: "col",
      class: number ? "number" : null,
      title: hint,
      "aria-sort": active ? (sort.order === "asc" ? "ascending" : "descending") : null,
    },
    sort
      ? h(
          "button",
          { type: "button", "data-key": `sort-${name}`, onclick: () => sort.choose(name) },
          title,
          arrow && h("span", { "aria-hidden": "true" }, arrow),
        )
      : title,
  );
}
