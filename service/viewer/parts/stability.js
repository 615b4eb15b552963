/** How stable a unit's circuit is: kernels that stay when it is found anew, and those certified. */

/** @import { AtlasFacts, StableKernels } from "openapi" */

import { get, unitPath } from "../api.js";
import { h } from "../dom.js";
import { count, percent, whole } from "../figures.js";
import { tableFiles } from "../menu.js";
import { panel } from "../panel.js";
import { reading } from "../reading.js";
import { table } from "../table.js";

/**
 * Makes the panel of a circuit's stability.
 *
 * @param {AtlasFacts} atlas
 * @param {{layer: string, unit: string}} of
 */
export function stability(atlas, { layer, unit }) {
  const query = (now) => {
    const { criterion, keep } = reading(now, atlas);
    return { criterion, keep };
  };
  return panel({
    title: "Stability",
    height: "26rem",
    note: "How much of the circuit is owed to the very images that chose it: its stable kernels are those that nearly all circuits hold that are found anew, as other images of the same kind might have chosen them. See [stability].",
    key: (now) => query(now),
    load: async (now) => {
      const asked = query(now);
      if (!atlas.redrawable.includes(asked.criterion)) return { asked, found: null };
      return { asked, found: await get(unitPath(layer, unit, "stability"), { ...asked, limit: 1 }) };
    },
    empty: ({ asked, found }) => (found ? null : missing(asked.criterion)),
    draw: ({ found }) => [
      h("p", { class: "lead" }, h("b", null, whole(found.total)), ...says(found)),
      coreTable(found.layers),
    ],
    files: ({ asked, found }) =>
      found ? tableFiles(unitPath(layer, unit, "stability"), asked, "stable kernels") : [],
  });
}

/**
 * Says in words what follows the number of stable kernels.
 *
 * @param {StableKernels} found
 */
function says({ kernels, draws, images, at_least, certified }) {
  const anew = images
    ? `${draws} draws of its ${count(images, "top image")} give`
    : `${count(draws, "training")} from different seeds give`;
  const told = [
    ` kernels are stable, where the circuit keeps ${whole(kernels)}: each is in at least ${percent(at_least)} of the circuits that ${anew}.`,
  ];
  if (certified.length) {
    const parts = certified.map(
      ({ edits, inside }) => `${whole(inside)} for ${count(edits, "edit")}`,
    );
    told.push(` Certified to stay whichever images are taken away or added: ${parts.join(", ")}.`);
  }
  return told;
}

/** Says why there is nothing, and what would give it. */
function missing(criterion) {
  return criterion === "learned"
    ? "No stability of learned is stored: `seeds = 3` in `[learned]` trains it several times and stores how far they agree."
    : `There are no scores of single images by ${criterion} to draw anew.`;
}

/** Makes a table with a row for each convolution: how much of its part of the circuit is stable. */
function coreTable(layers) {
  const most = Math.max(1, ...layers.map((row) => Math.max(row.kernels, row.stable)));
  return table({
    caption: "Stable kernels by convolution, from the image to the unit",
    columns: [
      { name: "convolution", title: "Convolution" },
      { name: "stable", title: "Stable", number: true },
      { name: "kernels", title: "In the circuit", number: true },
      { name: "bar", title: h("span", { class: "unseen" }, "As bars") },
    ],
    rows: layers.map((row) => ({
      convolution: h("span", { class: "mono" }, row.convolution),
      stable: whole(row.stable),
      kernels: whole(row.kernels),
      bar: h(
        "div",
        { class: "stack bare", "aria-hidden": "true" },
        h("i", { class: "part", style: { width: `${(100 * row.stable) / most}%` } }),
        h("i", {
          class: "shared",
          style: { width: `${(100 * Math.max(0, row.kernels - row.stable)) / most}%` },
        }),
      ),
    })),
  });
}
