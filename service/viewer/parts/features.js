/** Feature images of a unit: pictures made so that it responds as much as it can. */

import { get, unitPath, url } from "../api.js";
import { h } from "../dom.js";
import { groupName, measure, percent, ratio } from "../figures.js";
import { panel } from "../panel.js";

/** What is stored of a unit's feature images; nothing where the layer has none. */
export async function storedFeatures(atlas, layer, unit) {
  const known = atlas.layers.find((one) => one.layer === layer);
  return known?.features ? (await get(unitPath(layer, unit, "features"))).rows : [];
}

export function features(atlas, { layer, unit }) {
  return panel({
    title: "Feature images",
    place: "third",
    height: "20rem",
    key: () => null,
    load: () => storedFeatures(atlas, layer, unit),
    empty: (found) =>
      found.length
        ? null
        : "No feature images are stored: `circuit-atlas features` makes them.",
    draw: (found) => h("ul", { class: "shots" }, found.map((row) => feature(row, layer, unit))),
    files: (found) =>
      found.map((row) => ({
        label: "PNG",
        detail: words(row),
        href: imageUrl(row, layer, unit),
      })),
  });
}

/** What a feature image is of. */
export function words(row) {
  const parts = [];
  const variant = row.variant ?? "";
  if (row.sign === -1 || variant.includes("negative")) parts.push("negative");
  if (row.group !== null && row.group !== undefined) parts.push(`group ${groupName(row.group)}`);
  if (row.keep !== null && row.keep !== undefined && row.keep < 1) {
    parts.push(`through ${percent(row.keep)}`);
  }
  return parts.length ? parts.join(", ") : variant.replaceAll(/[-_]/g, " ") || "whole";
}

export const imageUrl = (row, layer, unit) =>
  row.url ? new URL(row.url, new URL(url([]))).href : url(unitPath(layer, unit, "features", row.variant));

export function feature(row, layer, unit) {
  const times = row.best_photo_response
    ? `${ratio(row.response / row.best_photo_response, 1)} × the best photo`
    : null;
  return h(
    "li",
    null,
    h(
      "div",
      { class: "picture" },
      h("img", { src: imageUrl(row, layer, unit), alt: `Feature image: ${words(row)}`, decoding: "async" }),
    ),
    h(
      "p",
      { class: "under" },
      h("span", { class: "clip" }, words(row)),
      h("span", { class: "dim number", title: "Response" }, measure(row.response)),
    ),
    times && h("p", { class: "under dim" }, times),
  );
}
