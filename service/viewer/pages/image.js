/** Image: one image, the units that respond to it most, and the circuits that do it. */

/**
 * @import { AtlasFacts, ImageUnit } from "openapi"
 * @import { State } from "../address.js"
 */

import { change, to } from "../address.js";
import { get, unitPath } from "../api.js";
import { imagesCrumbs } from "../crumbs.js";
import { fresh, h, put, whenNear } from "../dom.js";
import { count, imageText, measure, percent, whole } from "../figures.js";
import { heading } from "../heading.js";
import { useful } from "../live.js";
import { tableFiles } from "../menu.js";
import { panel } from "../panel.js";
import { crop, wholeImage } from "../image_view.js";
import { reading, splitText, THRESHOLD } from "../reading.js";

const LIMIT = 60;

/**
 * Makes the page.
 *
 * @param {State} state
 * @param {AtlasFacts} atlas
 */
export async function imagePage(state, atlas) {
  const id = state.image;
  const facts = await get(["images", id]);
  const selectId = fresh("layer");
  const layers = h(
    "select",
    { id: selectId, onchange: () => change({ layer: layers.value || null }) },
    h("option", { value: "" }, "all layers"),
    atlas.layers.map(({ layer }) => h("option", { value: layer }, layer)),
  );
  const query = (now) => ({ layer: now.layer });
  const units = panel({
    title: "Units that respond to it most",
    width: "two-thirds",
    height: "60vh",
    note: "Ordered by the image's rank among all images of each unit. Where it is one of a unit's top images, circuits for this image alone are stored: the smallest that is faithful on it is named.",
    controls: [h("div", { class: "field" }, h("label", { for: selectId }, "Layer"), layers)],
    key: (now) => query(now),
    look: (now) => circuitsOf(now, atlas),
    load: (now) => get(["images", id, "units"], { ...query(now), limit: LIMIT }),
    empty: (found) => (found.rows.length ? null : "No unit's response to it is stored."),
    draw: (found, now) => {
      const chosen = circuitsOf(now, atlas);
      return h(
        "ol",
        { class: "responders" },
        found.rows.map((row) => responder(row, { id, atlas, chosen })),
      );
    },
    files: (_, now) => tableFiles(["images", id, "units"], query(now)),
  });
  const seen = facts.split === "left_out" || facts.problem;
  const element = h(
    "div",
    null,
    heading({
      crumbs: imagesCrumbs(),
      title: facts.label ?? facts.name,
      facts: [
        ["File", facts.name],
        ["Label", facts.label ? h("a", { href: to("images", { label: facts.label }) }, facts.label) : null],
        ["Set", facts.split === "left_out" ? "left out" : splitText(facts.split)],
        ["Original size", facts.width ? `${whole(facts.width)} × ${whole(facts.height)} pixels` : null],
      ],
    }),
    h(
      "div",
      { class: "panels" },
      h(
        "section",
        { class: "panel third", "aria-label": "The image" },
        seen
          ? h("p", { class: "message" }, `This image is left out: ${facts.problem ?? "it is not used"}.`)
          : wholeImage({ image: id }, { input: atlas.input, alt: imageText(facts), eager: true }),
      ),
      units.element,
    ),
  );
  return {
    title: facts.label ?? facts.name,
    element,
    update(now) {
      layers.value = now.layer ?? "";
      units.update(now).then(() => useful("image"));
    },
  };
}

/**
 * Tells by which score and ablation the circuits of a single image are read.
 *
 * @param {State} now
 * @param {AtlasFacts} atlas
 */
function circuitsOf(now, atlas) {
  const scored = atlas.image_criteria.length ? atlas.image_criteria : atlas.criteria;
  const { criterion, ablation } = reading(now, { ...atlas, criteria: scored });
  return { criterion, ablation };
}

/**
 * Shows the smallest stored circuit of the image alone that is faithful on it, once it is in view.
 *
 * @param {ImageUnit} row
 * @param {{id: string, chosen: {criterion: string, ablation: string}}} of
 */
function smallest(row, { id, chosen }) {
  const element = h("p", { class: "dim smallest" }, " ");
  whenNear(element, async () => {
    try {
      const path = unitPath(row.layer, row.name, "subfeatures");
      const { rows } = await get(path, { image: id, limit: 1000 });
      const best = rows
        .filter((one) => one.criterion === chosen.criterion && one.ablation === chosen.ablation)
        .filter((one) => (one.pearson ?? 0) >= THRESHOLD)
        .reduce((least, one) => (least && least.kernels <= one.kernels ? least : one), null);
      put(
        element,
        best
          ? `${percent(best.fraction)}, ${count(best.kernels, "kernel")}: the smallest with r ≥ ${THRESHOLD} on this image by ${chosen.criterion}`
          : `no stored circuit reaches r ${THRESHOLD} on this image by ${chosen.criterion}`,
      );
    } catch (error) {
      put(element, error.message);
    }
  });
  return element;
}

/**
 * @param {ImageUnit} row
 * @param {{id: string, atlas: AtlasFacts, chosen: {criterion: string, ablation: string}}} of
 */
function responder(row, { id, atlas, chosen }) {
  const { name } = row;
  return h(
    "li",
    { class: "responder" },
    h(
      "div",
      { class: "shot" },
      crop(
        { image: id, box: row.box },
        { input: atlas.input, alt: `Where unit ${name} of ${row.layer} responds most` },
      ),
    ),
    h(
      "div",
      { class: "says" },
      h(
        "p",
        null,
        h("a", { href: to("unit", { layer: row.layer, unit: name }) }, `Unit ${name}`),
        row.unit_label !== null && ` ${row.unit_label}`,
        h("span", { class: "dim" }, ` of ${row.layer}`),
      ),
      h(
        "p",
        { class: "dim" },
        `its ${ordinal(row.rank + 1)} of ${count(atlas.images.scoring + atlas.images.held_out, "image")}`,
      ),
      h(
        "div",
        { class: "line" },
        h(
          "div",
          { class: "stack", title: "Share of the unit's largest response" },
          h("i", { class: "part", style: { width: `${100 * Math.min(1, row.share ?? 0)}%` } }),
        ),
        h(
          "span",
          { class: "number" },
          `${percent(Number(ratioOf(row.share)))} of its largest, ${measure(row.response)}`,
        ),
      ),
      row.top_rank !== null && [
        h(
          "p",
          null,
          h(
            "a",
            { href: to("unit", { layer: row.layer, unit: name, images: String(id) }) },
            "Its circuit for this image",
          ),
        ),
        smallest(row, { id, chosen }),
      ],
    ),
  );
}

const ratioOf = (share) => (share ?? 0).toFixed(2);

function ordinal(number) {
  const ending = { one: "st", two: "nd", few: "rd", other: "th" };
  return `${number}${ending[new Intl.PluralRules("en", { type: "ordinal" }).select(number)]}`;
}
