/** Where a page is: links to the pages above it. */

import { to } from "./address.js";

/** @typedef {Array<[string, string]>} Crumbs [text, link] of each page, from the atlas down. */

/** @returns {Crumbs} */
export const atlasCrumbs = () => [["Atlas", to("atlas")]];

/** @returns {Crumbs} */
export const imagesCrumbs = () => [...atlasCrumbs(), ["Images", to("images")]];

/**
 * @param {string} layer
 * @returns {Crumbs}
 */
export const layerCrumbs = (layer) => [...atlasCrumbs(), [layer, to("layer", { layer })]];

/**
 * @param {{layer: string, unit: string}} of the unit's address.
 * @param {string} name its name.
 * @returns {Crumbs}
 */
export const unitCrumbs = (of, name) => [...layerCrumbs(of.layer), [`Unit ${name}`, to("unit", of)]];
