/** One side of a comparison as it is seen: its name, its images, its feature visualization. */

/**
 * @import { AtlasFacts, FeatureRow, Side } from "openapi"
 * @import { ResolvedSide, SideName } from "./side.js"
 */

import { to } from "../address.js";
import { h } from "../dom.js";
import { count, groupName, imageText, percent, whole } from "../figures.js";
import { imageSheet } from "../image_sheet.js";
import { CROP, wholeImage } from "../image_view.js";
import { FEATURE, featureUrl, storedFeatures } from "./features.js";

const SHOWN = 20;

/**
 * Gets the feature visualization of a side's group, or of the whole unit, or null.
 *
 * @param {ResolvedSide} side
 */
export async function featureOf(side) {
  const rows = await storedFeatures(side.facts);
  const of = (group) => rows.find((row) => (row.group ?? null) === group);
  return of(side.group) ?? of(null) ?? null;
}

/**
 * Shows one side of a comparison.
 *
 * @param {SideName} side
 * @param {ResolvedSide} own
 * @param {Side} found what the server says of its circuit.
 * @param {FeatureRow|null} feature its feature visualization.
 * @param {AtlasFacts} atlas
 */
export function sideView(side, own, found, feature, atlas) {
  const of = own.images ? own.facts.top.filter((top) => own.images.includes(top.image)) : own.facts.top;
  const subset = own.group !== null ? { group: String(own.group), groups: own.groups } : own.images ? { images: own.images.join(",") } : {};
  const crops = imageSheet(of.slice(0, SHOWN), { input: atlas.input, shown: CROP, cropped: true });
  return h(
    "div",
    { class: `side-view ${side}` },
    h(
      "h3",
      null,
      h("a", { href: to("unit", { layer: own.layer, unit: own.unit, ...subset }) }, `Unit ${found.name}`),
      own.group !== null ? ` · group ${groupName(own.group)}` : "",
    ),
    h(
      "p",
      { class: "note" },
      `${own.layer} · ${own.words} · ${own.query.criterion} · ${whole(found.kernels)} kernels, ${percent(own.query.keep)}`,
    ),
    h(
      "div",
      { class: "side-images" },
      feature &&
        h(
          "div",
          { class: "image-box feature" },
          h("img", {
            src: featureUrl(feature, own.layer, own.unit, FEATURE),
            alt: `Feature visualization of the ${side} circuit`,
          }),
        ),
      of.slice(0, SHOWN).map((image, at) =>
        h(
          "a",
          { href: to("image", { image: image.image, layer: own.layer }) },
          own.images
            ? wholeImage(image, { input: atlas.input, alt: imageText(image), box: true })
            : crops(at, imageText(image)),
        ),
      ),
    ),
    of.length > SHOWN && h("p", { class: "note" }, `and ${count(of.length - SHOWN, "more image")}`),
  );
}
