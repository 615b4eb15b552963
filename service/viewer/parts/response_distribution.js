/** How a unit's responses are spread over all images. */

/** @import { ResponseDistributionAnswer } from "openapi" */

import { get, unitPath } from "../api.js";
import { h } from "../dom.js";
import { count, measure } from "../figures.js";
import { histogram } from "../histogram.js";
import { panel } from "../panel.js";

/**
 * Makes the panel of a unit's responses.
 *
 * @param {{layer: string, unit: string}} of
 */
export function responseDistribution({ layer, unit }) {
  return panel({
    title: "Responses",
    height: "13rem",
    note: "How the unit's [responses|response] are spread over all images that can be used, scoring and held-out ones; [top images] are the scoring ones at the right end.",
    key: () => null,
    load: () => get(unitPath(layer, unit, "response-distribution")),
    empty: ({ images }) => (images ? null : "The unit has no finite response to any image."),
    draw: (found) => [
      histogram({
        label: `Responses of the unit to ${count(found.images, "image")}`,
        bins: bins(found),
        height: 120,
        bare: true,
      }),
      h(
        "p",
        { class: "legend" },
        h("span", null, count(found.images, "image")),
        h("span", null, `mean ${measure(found.mean)}`),
        h("span", null, `standard deviation ${measure(found.sd)}`),
      ),
    ],
  });
}

/**
 * Gives a bar for each step; the first and the last are named by the ends.
 *
 * @param {ResponseDistributionAnswer} found
 */
function bins({ counts, edges }) {
  return counts.map((images, step) => ({
    name: measure(edges[step === counts.length - 1 ? step + 1 : step]),
    count: images,
    says: `${count(images, "image")} from ${measure(edges[step])} to ${measure(edges[step + 1])}`,
  }));
}
