/** Layer: its units as cards or as a table, sorted and filtered by what is stored of them. */

import { change, changed, state as address, to } from "../address.js";
import { get, unitPath, url } from "../api.js";
import { h, put } from "../dom.js";
import { smallestCounts } from "../distribution.js";
import { columnTitle, count, measure, percent, ratio, whole } from "../figures.js";
import { filterBar, filterQuery } from "../filters.js";
import { badge, heading } from "../heading.js";
import { histogram } from "../histogram.js";
import { announce, useful } from "../live.js";
import { tableFiles } from "../menu.js";
import { panel } from "../panel.js";
import { crop } from "../picture.js";
import { reading, readingBar, THRESHOLD } from "../reading.js";
import { sparkline } from "../sparkline.js";
import { table } from "../table.js";


const PAGE = 60;
const FIRST = ["unit", "state", "keep", "circuit_kernels", "groups", "polysemanticity"];

export async function page(state, atlas) {
  const layer = state.layer;
  const facts = await get(["layers", layer]);
  const bar = readingBar(atlas);
  const protocol = (now) => {
    const { criterion, ablation, split } = reading(now, atlas);
    return { criterion, ablation, split, threshold: THRESHOLD };
  };
  const query = (now) => ({
    ...protocol(now),
    at: reading(now, atlas).keep,
    ...filterQuery(now),
    sort: now.sort ?? "unit",
    order: now.order ?? "asc",
  });
  const sizes = panel({
    title: "Circuit size",
    note: `The smallest stored circuit of each unit that reaches r ≥ ${THRESHOLD}. A bar filters the units.`,
    height: "150px",
    key: (now) => protocol(now),
    look: (now) => [now["min.keep"], now["max.keep"]],
    load: (now) => get(["layers", layer, "distribution"], protocol(now)),
    empty: (found) => (found.rows.length ? null : "No unit of this layer has a circuit yet."),
    draw: (found, now) => sizeHistogram(found.rows, now, atlas),
    files: () =>
      tableFiles((format) =>
        url(["layers", layer, "distribution"], {
          ...protocol(address()),
          format,
        }),
      ),
  });
  const filters = filterBar();
  const views = h("div", { class: "segments", role: "group", "aria-label": "Show as" });
  const units = panel({
    title: "Units",
    height: "60vh",
    controls: [views],
    key: (now) => [query(now), now.from],
    look: (now) => [now.view, reading(now, atlas).rung],
    load: (now) =>
      get(["layers", layer, "units"], {
        ...query(now),
        offset: Number(now.from) || 0,
        limit: PAGE,
      }),
    empty: (found) => {
      announce(count(found.total, "unit"));
      return found.rows.length ? null : "No unit is like this: take a filter away.";
    },
    draw: (found, now) => {
      filters.columns(found.columns);
      const rows = found.rows;
      return [
        h("p", { class: "note" }, `${span(found)}. r is that at ${percent(reading(now, atlas).keep)} of the kernels.`),
        now.view === "table" ? unitTable(found, now, layer, atlas) : cards(rows, now, layer, atlas),
        pager(found),
      ];
    },
    files: () =>
      tableFiles((format) => url(["layers", layer, "units"], { ...query(address()), format })),
  });
  const element = h(
    "div",
    null,
    heading({
      crumbs: [["Atlas", to("atlas")]],
      title: layer,
      facts: [
        ["Units", progressText(facts)],
        ["Output", `${whole(facts.channels)} × ${facts.height} × ${facts.width}`],
        ["Kernels", whole(facts.kernels)],
        ["Convolutions", whole(facts.convolutions)],
      ],
    }),
    bar.element,
    h("div", { class: "panels" }, sizes.element, filters.element, units.element),
  );
  return {
    title: layer,
    element,
    update(now) {
      bar.update(now);
      filters.update(now);
      put(
        views,
        [
          ["grid", "Cards"],
          ["table", "Table"],
        ].map(([view, text]) =>
          h(
            "button",
            {
              type: "button",
              "aria-pressed": String((now.view ?? "grid") === view),
              onclick: () => change({ view: view === "grid" ? null : view }),
            },
            text,
          ),
        ),
      );
      sizes.update(now);
      units.update(now).then(() => useful("layer"));
    },
  };
}

/** How far the layer is, in words. */
function progressText(facts) {
  const parts = [
    [facts.done, "done"],
    [facts.dead, "dead"],
    [facts.failed, "failed"],
    [facts.missing, "not computed yet"],
  ].filter(([number]) => number);
  return parts.map(([number, text]) => `${whole(number)} ${text}`).join(", ") || "none";
}

function sizeHistogram(rows, now, atlas) {
  const { bins, none, units } = smallestCounts(rows, atlas.fractions);
  const low = now["min.keep"];
  const high = now["max.keep"];
  return histogram({
    label: `Smallest circuits with r of ${THRESHOLD} of ${count(units, "unit")}`,
    title: "kernels kept",
    bins: [
      ...bins.map((bin) => {
        const chosen = low === String(bin.fraction) && high === String(bin.fraction);
        const value = chosen ? null : String(bin.fraction);
        return {
          ...bin,
          chosen,
          says: `${bin.says}${chosen ? ", chosen" : ""}`,
          link: changed({
            "min.keep": value,
            "max.keep": value,
            from: null,
          }),
        };
      }),
      { name: "none", count: none, other: true, says: `${count(none, "unit")} reach it with none` },
    ],
    height: 150,
  });
}

const span = ({ offset, rows, total }) =>
  rows.length < total
    ? `${whole(offset + 1)} to ${whole(offset + rows.length)} of ${count(total, "unit")}`
    : count(total, "unit");

function cards(rows, now, layer, atlas) {
  const { rung, keep } = reading(now, atlas);
  return h(
    "ul",
    { class: "cards" },
    rows.map((row, at) => card(row, { rung, keep, layer, atlas, eager: at < 12 })),
  );
}

function card(row, { rung, keep, layer, atlas, eager }) {
  const r = row.r[rung];
  const link = to("unit", { layer, unit: row.name });
  return h(
    "li",
    { class: `card ${row.state}` },
    h("div", { class: "shot" }, shot(row, { layer, atlas, eager })),
    h(
      "div",
      { class: "says" },
      h(
        "div",
        { class: "line" },
        h("a", { class: "whole", href: link, "data-key": `unit-${row.unit}` }, row.name),
        row.state === "done"
          ? row.groups > 1 && h("span", { class: "tag", title: "Sub-features" }, `${row.groups} sub-features`)
          : badge(row.state),
      ),
      row.state === "done"
        ? [
            h(
              "p",
              null,
              row.keep === null
                ? h("span", { class: "dim" }, `no circuit reaches r ${ratio(THRESHOLD, 1)}`)
                : [
                    h("b", null, percent(row.keep)),
                    h("span", { class: "dim" }, ` · ${count(row.circuit_kernels, "kernel")}`),
                  ],
            ),
            h(
              "div",
              { class: "line" },
              row.r.length > 0 && sparkline(atlas.fractions, row.r, { threshold: THRESHOLD, rung }),
              h("span", { class: "number", title: `r at ${percent(keep)} of the kernels` }, `r ${ratio(r)}`),
            ),
          ]
        : h("p", { class: "dim clip", title: row.error ?? "" }, row.error ?? STATE_TEXT[row.state]),
    ),
  );
}

const STATE_TEXT = {
  dead: "Its response is the same on every image.",
  planned: "Not computed yet.",
  failed: "It failed.",
};

/** The unit's feature image, or a cut of its best picture, or neither. */
function shot(row, { layer, atlas, eager }) {
  if (row.feature) {
    return h(
      "div",
      { class: "picture" },
      h("img", {
        src: url(unitPath(layer, String(row.unit), "features", "positive")),
        alt: `Feature image of unit ${row.name}`,
        loading: eager ? null : "lazy",
        decoding: "async",
      }),
    );
  }
  if (row.image === null || row.image === undefined) {
    return h("div", { class: "picture none" }, h("span", null, row.state === "done" ? "" : "no picture"));
  }
  const alt = `Top image of unit ${row.name}, cut to its receptive field`;
  return crop({ image: row.image, box: row.box }, { input: atlas.input, alt, eager });
}

const COUNTS = new Set(["unit", "kernels", "circuit_kernels", "groups"]);

/** Columns that are shown otherwise: as the link, or as the picture. */
const DRAWN = new Set(["name", "image", "image_name", "label", "feature"]);

function unitTable(found, now, layer, atlas) {
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
      state: badge(row.state),
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

function pager({ total, offset, limit }) {
  const size = limit ?? PAGE;
  if (total <= size) return null;
  const pages = Math.ceil(total / size);
  const at = Math.floor(offset / size);
  const link = (wanted, text, rel) =>
    wanted < 0 || wanted >= pages
      ? h("span", { class: "button", "aria-disabled": "true" }, text)
      : h(
          "a",
          { class: "button", rel, href: changed({ from: wanted ? wanted * size : null }), "data-key": rel },
          text,
        );
  return h(
    "nav",
    { class: "pager", "aria-label": "Pages of units" },
    link(at - 1, "Previous", "prev"),
    h("span", null, `Page ${at + 1} of ${pages}`),
    link(at + 1, "Next", "next"),
  );
}
