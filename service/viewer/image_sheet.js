/** Shows small images in rows: those of a list come on sheets, as few files. */

/**
 * @import { Size } from "openapi"
 * @import { Seen } from "./image_view.js"
 */

import { sheetUrl } from "./api.js";
import { h, style } from "./dom.js";
import { cropBox } from "./image_view.js";

/** Images of a sheet, at most: the first are not to wait for the last. */
const MOST = 24;
const COLUMNS = 8;
const MARGIN = 4; // pixels around an image, on the sheet

/**
 * Makes what shows the images of a list.
 *
 * @param {Seen[]} seen
 * @param {object} of
 * @param {Size} of.input the network's input, in pixels.
 * @param {number} of.shown points that each is shown wide, about.
 * @param {boolean} [of.cropped] whether to show their boxes, as a crop does, and not all of them.
 * @returns {(at: number, alt: string, options?: {lazy?: boolean}) => HTMLElement} shows the one at
 *   that place of the list.
 */
export function imageSheet(seen, { input, shown, cropped = false }) {
  // On the sheet each is a whole number of the blocks that JPEG draws in.
  const wide = 16 * Math.ceil((shown * devicePixelRatio + 2 * MARGIN) / 16);
  const width = wide - 2 * MARGIN;
  const ratio = cropped ? 1 : input.height / input.width;
  const height = Math.max(1, Math.round(width * ratio));
  const high = height + 2 * MARGIN;
  const cells = seen.map(({ image, box }) => (cropped ? `${image}:${cropBox(box, input)}` : `${image}`));
  return (at, alt, { lazy = true } = {}) => {
    const first = at - (at % MOST);
    const count = Math.min(MOST, cells.length - first);
    const [column, row] = [(at - first) % COLUMNS, Math.floor((at - first) / COLUMNS)];
    const [columns, rows] = [Math.min(COLUMNS, count), Math.ceil(count / COLUMNS)];
    const img = h("img", {
      src: sheetUrl(cells.slice(first, first + count), width),
      alt,
      loading: lazy ? "lazy" : null,
      decoding: "async",
    });
    style(img, {
      width: `${(100 * columns * wide) / width}%`,
      height: `${(100 * rows * high) / height}%`,
      left: `${(-100 * (column * wide + MARGIN)) / width}%`,
      top: `${(-100 * (row * high + MARGIN)) / height}%`,
    });
    const element = h("div", { class: "image-box" }, img);
    if (!cropped) style(element, { "--ratio": `${input.width} / ${input.height}` });
    return element;
  };
}
