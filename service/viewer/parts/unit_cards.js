/** Units as cards: an image, the smallest faithful circuit, and r against the kept fraction. */

/**
 * @import { AtlasFacts, UnitRow } from "openapi"
 * @import { State } from "../address.js"
 */

import { to } from "../address.js";
import { unitPath, url, widthOf } from "../api.js";
import { h } from "../dom.js";
import { count, percent, ratio } from "../figures.js";
import { badge } from "../heading.js";
import { crop } from "../image_view.js";
import { reading, THRESHOLD } from "../reading.js";
import { sparkline } from "../sparkline.js";

/** Points that an image is shown wide, about. */
const SHOWN = 80;

/**
 * Makes a card for each unit.
 *
 * @param {UnitRow[]} rows
 * @param {State} now
 * @param {string} layer
 * @param {AtlasFacts} atlas
 */
export function cards(rows, now, layer, atlas) {
  const { level, keep } = reading(now, atlas);
  return h(
    "ul",
    { class: "cards" },
    rows.map((row, at) => card(row, { level, keep, layer, atlas, eager: at < 12 })),
  );
}

/**
 * @param {UnitRow} row
 * @param {{level: number, keep: number, layer: string, atlas: AtlasFacts, eager: boolean}} of
 */
function card(row, { level, keep, layer, atlas, eager }) {
  const r = row.r[level];
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
        row.unit_label !== null && h("span", { class: "clip", title: row.unit_label }, row.unit_label),
        row.state === "done"
          ? row.groups > 1 && h("span", { class: "tag", title: "Sub-features" }, `${row.groups} sub-features`)
          : badge(row.state),
      ),
      row.state === "done"
        ? [
            h(
              "p",
              null,
              row.fraction === null
                ? h("span", { class: "dim" }, `no circuit reaches r ${ratio(THRESHOLD, 1)}`)
                : [
                    h("b", null, percent(row.fraction)),
                    h("span", { class: "dim" }, ` · ${count(row.kernels, "kernel")}`),
                  ],
            ),
            h(
              "div",
              { class: "line" },
              row.r.length > 0 && sparkline(atlas.fractions, row.r, { threshold: THRESHOLD, level }),
              row.silent
                ? h("span", { class: "tag", title: `${SILENT} At ${percent(keep)} of the kernels.` }, "silent")
                : h("span", { class: "number", title: `r at ${percent(keep)} of the kernels` }, `r ${ratio(r)}`),
            ),
          ]
        : h("p", { class: "dim clip", title: row.error ?? "" }, row.error ?? STATE_TEXT[row.state]),
    ),
  );
}

const SILENT = "The circuit never fires where the whole network does.";

const STATE_TEXT = {
  dead: "Its response is the same on every image.",
  planned: "Not computed yet.",
  failed: "It failed.",
};

/**
 * Shows a unit's feature visualization, or a crop of its top image, or neither.
 *
 * @param {UnitRow} row
 * @param {{layer: string, atlas: AtlasFacts, eager?: boolean}} of
 */
export function shot(row, { layer, atlas, eager = false }) {
  if (row.feature) {
    return h(
      "div",
      { class: "image-box" },
      h("img", {
        src: url(unitPath(layer, String(row.unit), "features", "positive"), { width: widthOf(SHOWN) }),
        alt: `Feature visualization of unit ${row.name}`,
        loading: eager ? null : "lazy",
        decoding: "async",
      }),
    );
  }
  if (row.image === null || row.image === undefined) {
    return h("div", { class: "image-box none" }, h("span", null, row.state === "done" ? "" : "no image"));
  }
  const alt = `Top image of unit ${row.name}: ${row.label ?? `image ${row.image}`}`;
  return crop({ image: row.image, box: row.box }, { input: atlas.input, alt, eager });
}
