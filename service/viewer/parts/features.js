/** Feature visualizations of a unit: images made so that it responds as much as it can. */

/** @import { FeatureRow, UnitAnswer } from "openapi" */

import { get, unitPath, url, widthOf } from "../api.js";
import { h } from "../dom.js";
import { groupName, measure, percent } from "../figures.js";
import { panel } from "../panel.js";

/** Points that a feature visualization is shown wide, at most, about. */
export const FEATURE = 160;

/**
 * Gets a unit's feature visualizations.
 *
 * @param {UnitAnswer} facts
 * @returns {Promise<FeatureRow[]>}
 */
export async function storedFeatures({ layer, name, has }) {
  return has.features.length ? (await get(unitPath(layer, name, "features"))).rows : [];
}

/**
 * Makes the panel of feature visualizations.
 *
 * @param {UnitAnswer} facts
 * @param {{layer: string, unit: string}} of
 */
export function features(facts, { layer, unit }) {
  return panel({
    title: "Feature visualizations",
    width: "third",
    note: "Images [made|feature-visualization] to drive the unit's output up (positive), or down (negative). Under each: the mean of its output over the fifth of positions where that is largest, and the same for the best image of the set.",
    height: "20rem",
    key: () => null,
    load: () => storedFeatures(facts),
    empty: (found) =>
      found.length
        ? null
        : "No feature visualizations are stored: `circuit-atlas features` makes them.",
    draw: (found) => h("ul", { class: "shots" }, found.map((row) => feature(row, layer, unit))),
    files: (found) =>
      found.length === 0
        ? []
        : [
            {
              label: "JSON",
              detail: "how each was made",
              file: () => ({
                name: `features-${layer}-${unit}.json`,
                type: "application/json",
                text: JSON.stringify({ address: location.href, rows: found }, null, 1),
              }),
            },
            ...found.map((row) => ({
              label: "PNG",
              detail: signText(row),
              href: featureUrl(row, layer, unit),
            })),
          ],
  });
}

/**
 * Says what a feature visualization is of: its sign, then its group and circuit where it has them.
 *
 * @param {FeatureRow} row
 */
export function signText(row) {
  /** @type {string[]} */
  const parts = [row.sign];
  if (row.group !== null) parts.push(`group ${groupName(row.group)}`);
  if (row.keep !== null) parts.push(`through ${percent(row.keep)}`);
  return parts.join(", ");
}

/**
 * Makes the address of a feature visualization's image.
 *
 * @param {FeatureRow} row
 * @param {string} layer
 * @param {string|number} unit
 * @param {number|null} [shown] points that it is shown wide. Default: it is sent as it is.
 */
export const featureUrl = (row, layer, unit, shown = null) =>
  url(unitPath(layer, String(unit), "features", row.variant), {
    v: row.version,
    width: widthOf(shown),
  });

/**
 * @param {FeatureRow} row
 * @param {string} layer
 * @param {string} unit
 */
function feature(row, layer, unit) {
  return h(
    "li",
    null,
    h(
      "div",
      { class: "image-box" },
      h("img", { src: featureUrl(row, layer, unit, FEATURE), alt: `Feature visualization: ${signText(row)}`, decoding: "async" }),
    ),
    h("p", { class: "caption" }, signText(row)),
    h(
      "p",
      { class: "caption dim" },
      `${measure(row.response)}, best image ${measure(row.best_image_response)}`,
      !row.beats_images && h("span", { class: "warn" }, ": no more than an image of the set"),
    ),
  );
}
