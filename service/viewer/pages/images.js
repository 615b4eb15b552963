/** Images: the image set, by label and split. */

/**
 * @import { AtlasFacts, ImageRow, ImageRows } from "openapi"
 * @import { State } from "../address.js"
 */

import { change, to } from "../address.js";
import { get, imageUrl } from "../api.js";
import { atlasCrumbs } from "../crumbs.js";
import { fresh, h, put } from "../dom.js";
import { imageText } from "../figures.js";
import { heading } from "../heading.js";
import { useful } from "../live.js";
import { tableFiles } from "../menu.js";
import { behind, pager, span, start } from "../pager.js";
import { panel } from "../panel.js";
import { splitText } from "../reading.js";

const PAGE = 120;
/** Points that an image is shown wide, about. */
const SHOWN = 108;
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
        h("ul", { class: "shots small" }, found.rows.map(shot)),
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
 * @param {ImageRow} row
 * @param {number} at
 */
function shot(row, at) {
  const { id } = row;
  const text = row.label ?? row.name;
  return h(
    "li",
    null,
    row.problem
      ? h("div", { class: "image-box none" }, h("span", null, "left out"))
      : h(
          "a",
          { href: to("image", { image: id }) },
          h(
            "div",
            { class: "image-box" },
            h("img", {
              src: imageUrl(id, { shown: SHOWN }),
              alt: imageText(row),
              loading: at < 24 ? null : "lazy",
              decoding: "async",
            }),
          ),
        ),
    h(
      "p",
      { class: "under" },
      h("span", { class: "clip", title: row.problem ?? row.name }, row.problem ?? text),
      h("span", { class: "dim" }, row.split === "held_out" ? "held out" : ""),
    ),
  );
}
