/** A circuit: how many of its kernels lie where, and its diagram. */

/**
 * @import { AtlasFacts } from "openapi"
 * @import { State } from "../address.js"
 */

import { changed } from "../address.js";
import { get, unitPath, url } from "../api.js";
import { h } from "../dom.js";
import { percent, whole } from "../figures.js";
import { tableFiles } from "../menu.js";
import { panel } from "../panel.js";
import { reading } from "../reading.js";
import { table } from "../table.js";
import { subset } from "./subset.js";

/**
 * Gives what decides which circuit a unit's page shows.
 *
 * @param {State} now
 * @param {AtlasFacts} atlas
 */
export const circuitKey = (now, atlas) => {
  const { criterion, keep } = reading(now, atlas);
  return { criterion, keep, images: now.images, group: now.group, groups: now.groups };
};

/**
 * Makes the panel of a circuit's kernels by convolution.
 *
 * @param {AtlasFacts} atlas
 * @param {{layer: string, unit: string}} of
 */
export function circuitCounts(atlas, { layer, unit }) {
  return panel({
    title: "Circuit",
    note: "The [kernels|kernel] that the chosen [score] ranks first, and where they lie: how many of each convolution's are kept of those in [reach].",
    width: "half",
    height: "19rem",
    key: (now) => circuitKey(now, atlas),
    load: async (now) => {
      const asked = await subset({ ...now, layer, unit }, reading(now, atlas));
      const found = await get(unitPath(layer, unit, "circuit"), { ...asked.query, limit: 1 });
      return { asked, found };
    },
    draw: ({ asked, found }, now) => [
      h(
        "p",
        { class: "lead" },
        h("b", null, whole(found.kernels)),
        ` of ${whole(found.reachable_kernels)} kernels, ${percent(found.kernels / found.reachable_kernels)}, for ${asked.words}. `,
        (asked.images || now.group) &&
          h("a", { href: changed({ images: null, group: null }) }, "Show that of all images"),
      ),
      countTable(found.layers),
    ],
    files: ({ asked, found }, now) => [
      ...tableFiles(
        unitPath(layer, unit, "circuit"),
        asked.query,
        `${whole(found.kernels)} kernels`,
      ),
      {
        label: "SVG",
        detail: "diagram",
        href: url(unitPath(layer, unit, "diagram.svg"), { ...asked.query, edges: now.edges }),
      },
    ],
  });
}

/** Makes a table with a row for each convolution and the share of its kernels that is kept. */
export function countTable(layers) {
  const most = Math.max(...layers.map((row) => row.kernels / Math.max(1, row.reachable_kernels)), 1e-9);
  return table({
    caption: "Kernels by convolution, from the image to the unit",
    columns: [
      { name: "convolution", title: "Convolution" },
      { name: "kernels", title: "Kept", number: true },
      { name: "reachable_kernels", title: "In reach", number: true },
      { name: "share", title: "Share", number: true },
      { name: "bar", title: h("span", { class: "unseen" }, "Share as a bar") },
    ],
    rows: layers.map((row) => {
      const share = row.kernels / Math.max(1, row.reachable_kernels);
      return {
        convolution: h("span", { class: "mono" }, row.convolution),
        kernels: whole(row.kernels),
        reachable_kernels: whole(row.reachable_kernels),
        share: percent(share),
        bar: h(
          "div",
          { class: "stack", "aria-hidden": "true" },
          h("i", { class: "part", style: { width: `${(100 * share) / most}%` } }),
        ),
      };
    }),
  });
}
