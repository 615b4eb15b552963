/** The units whose circuits share most kernels with this one's. */

/** @import { AtlasFacts } from "openapi" */

import { to } from "../address.js";
import { get, unitPath } from "../api.js";
import { h } from "../dom.js";
import { count, ratio } from "../figures.js";
import { tableFiles } from "../menu.js";
import { panel } from "../panel.js";
import { crop } from "../image_view.js";
import { reading } from "../reading.js";

const LIMIT = 12;

/**
 * Makes the panel of similar units.
 *
 * @param {AtlasFacts} atlas
 * @param {{layer: string, unit: string}} of
 */
export function similar(atlas, { layer, unit }) {
  const query = (now) => {
    const { criterion, keep } = reading(now, atlas);
    return { criterion, keep };
  };
  return panel({
    title: "Units with the most similar circuits",
    note: "Units of the layer whose [circuits|circuit] share most [kernels|kernel] with this one's at the chosen [kept fraction], by [IoU].",
    key: (now) => query(now),
    load: (now) => get(unitPath(layer, unit, "similar"), { ...query(now), limit: LIMIT }),
    empty: (found) =>
      found.rows.length ? null : "No other unit of this layer has a circuit to compare with.",
    draw: (found) =>
      h(
        "ol",
        { class: "cards narrow" },
        found.rows.map((row) => {
          const name = row.name;
          const both = { "left.layer": layer, "left.unit": unit, "right.layer": layer, "right.unit": name };
          return h(
            "li",
            { class: "card" },
            h(
              "div",
              { class: "shot" },
              row.image !== null
                ? crop(
                    { image: row.image, box: row.box },
                    { input: atlas.input, alt: `Top image of unit ${name}` },
                  )
                : h("div", { class: "image-box none" }),
            ),
            h(
              "div",
              { class: "says" },
              h(
                "div",
                { class: "line" },
                h("a", { href: to("unit", { layer, unit: name }) }, String(name)),
                h("b", { class: "number" }, ratio(row.iou)),
              ),
              h(
                "div",
                { class: "stack", "aria-hidden": "true" },
                h("i", { class: "part", style: { width: `${100 * row.iou}%` } }),
              ),
              h("p", { class: "dim" }, `${count(row.shared, "kernel")} shared`),
              h(
                "p",
                null,
                h("a", { href: to("compare", both), "aria-label": `Compare with unit ${name}` }, "Compare"),
              ),
            ),
          );
        }),
      ),
    files: (_, now) =>
      tableFiles(unitPath(layer, unit, "similar"), query(now)),
  });
}
