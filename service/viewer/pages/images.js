/** Images: the image set, by label and split. */

/**
 * @import { AtlasFacts, ImageRow, ImageRows } from "openapi"
 * @import { State } from "../address.js"
 */

import { change, to } from "../address.js";
import { get } from "../api.js";
import { atlasCrumbs } from "../crumbs.js";
import { fresh, h, put } from "../dom.js";
import { imageText } from "../figures.js";
import { heading } from "../heading.js";
import { imageSheet } from "../image_sheet.js";
import { useful } from "../live.js";
import { tableFiles } from "../menu.js";
import { behind, pager, span, start } from "../pager.js";
import { panel } from "../panel.js";
import { splitText } from "../reading.js";

const PAGE = 120;
/** Points that an image is shown wide, about. */
const SHOWN = 104;
/** Images that are loaded at once, whether they are in sight or not. */
const EAGER = 24;
const SPLITS = ["scoring", "held_out", "left_out"];

/**
 * Makes the page.
 *
 * @param {State} _
 * @param {AtlasFacts} atlas
 */
export async function imagesPage(_, atlas) {
  const splitId = fresh("split");
  const labelId = fresh("label");
  const split = h(
    "select",
    { id: splitId, onchange: () => change({ of: split.value || null, from: null }) },
    h("option", { value: "" }, "all"),
    SPLITS.filter((name) => atlas.images[name]).map((name) =>
      h("option", { value: name }, name === "left_out" ? "left out" : splitText(name)),
    ),
  );
  const labels = h("datalist", { id: fresh("labels") });
  const label = h("input", {
    id: labelId,
    type: "search",
    placeholder: "any",
    list: labels.id,
    onchange: () => change({ label: label.value.trim() || null, from: null }),
  });
  const query = (now) => ({ label: now.label, split: now.of });
  const images = panel({
    title: "Images as the network sees them",
    note: "All [images|image] of the set, resized and cropped; choose one to see which units respond to it.",
    height: "60vh",
    controls: [
      h("div", { class: "field" }, h("label", { for: labelId }, "Label"), label, labels),
      h("div", { class: "field" }, h("label", { for: splitId }, "Set"), split),
    ],
    key: (now) => [query(now), now.from],
    load: (now) =>
      get(["images"], { ...query(now), offset: start(now), limit: PAGE }),
    empty: (found) =>
      found.rows.length ? null : (behind(found, "image") ?? "No image matches."),
    draw: (found, now) => {
      offer(labels, found, now);
      return [
        h("p", { class: "note" }, span(found, "image")),
        h("ul", { class: "shots small" }, shots(found.rows, atlas)),
        pager(found, "image"),
      ];
    },
    files: (_, now) => tableFiles(["images"], query(now)),
  });
  return {
    title: "Images",
    element: h(
      "div",
      null,
      heading({ crumbs: atlasCrumbs(), title: "Images" }),
      h("div", { class: "panels" }, images.element),
    ),
    update(now) {
      split.value = now.of ?? "";
      if (document.activeElement !== label) label.value = now.label ?? "";
      images.update(now).then(() => useful("images"));
    },
  };
}

/**
 * Offers labels to choose from: those of the images that were seen.
 *
 * @param {HTMLDataListElement} labels
 * @param {ImageRows} found
 * @param {State} now
 */
function offer(labels, found, now) {
  if (now.label) return;
  const known = [...new Set(found.rows.map((row) => row.label).filter(Boolean))].sort();
  put(
    labels,
    known.map((value) => h("option", { value })),
  );
}

/**
 * Shows the images of a page of the set.
 *
 * @param {ImageRow[]} rows
 * @param {AtlasFacts} atlas
 */
function shots(rows, { input }) {
  const there = rows.filter((row) => !row.problem);
  const shown = imageSheet(
    there.map(({ id }) => ({ image: id })),
    { input, shown: SHOWN },
  );
  const places = new Map(there.map((row, at) => [row, at]));
  return rows.map((row) => {
    const at = places.get(row);
    return shot(row, at === undefined ? null : shown(at, imageText(row), { lazy: at >= EAGER }));
  });
}

/**
 * @param {ImageRow} row
 * @param {Node|null} image null: it was left out.
 */
function shot(row, image) {
  const text = row.label ?? row.name;
  return h(
    "li",
    null,
    image
      ? h("a", { href: to("image", { image: row.id }) }, image)
      : h("div", { class: "image-box none" }, h("span", null, "left out")),
    h(
      "p",
      { class: "under" },
      h("span", { class: "clip", title: row.problem ?? row.name }, row.problem ?? text),
      h("span", { class: "dim" }, row.split === "held_out" ? "held out" : ""),
    ),
  );
}
