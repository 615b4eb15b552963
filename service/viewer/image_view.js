/** Shows images of the set: whole with the field that was seen, or cropped to that field. */

/** @import { Size } from "openapi" */

import { imageUrl } from "./api.js";
import { h, style } from "./dom.js";

/** Points that an image is shown wide in a row of them, about. */
export const SHOT = 150;

/**
 * An image by its number, and what a unit sees of it as [top, left, bottom, right].
 *
 * @typedef {{image: number|string, box?: [number, number, number, number]|null}} Seen
 */

/**
 * Shows a whole image as the network sees it.
 *
 * @param {Seen} image
 * @param {object} of
 * @param {Size} of.input the network's input, in pixels.
 * @param {string} of.alt
 * @param {boolean} [of.box] whether to draw the receptive field of the largest response.
 * @param {number[][]|null} [of.map] response map, rows of values, to lay over it.
 * @param {number} [of.scale] the value that is drawn strongest. Default: the largest of the map.
 * @param {boolean} [of.eager] whether to load it before it comes near the window.
 * @param {number|null} [of.shown] points that it is shown wide. Default: it is loaded as it is.
 */
export function wholeImage(
  image,
  { input, alt, box = false, map = null, scale, eager = false, shown = null },
) {
  const element = h(
    "div",
    { class: map ? "image-box mapped" : "image-box" },
    h("img", {
      src: imageUrl(image.image, { shown }),
      alt,
      width: input.width,
      height: input.height,
      loading: eager ? null : "lazy",
      decoding: "async",
    }),
    map && heat(map, scale),
  );
  style(element, { "--ratio": `${input.width} / ${input.height}` });
  const seen = image.box;
  if (box && seen) {
    const [top, left, bottom, right] = clamped(seen, input);
    const field = h("div", { class: "field-box" });
    style(field, {
      top: `${(100 * top) / input.height}%`,
      left: `${(100 * left) / input.width}%`,
      height: `${(100 * (bottom - top)) / input.height}%`,
      width: `${(100 * (right - left)) / input.width}%`,
    });
    element.append(field);
  }
  return element;
}

/**
 * Gives the part of an image that a crop shows: a square around a box, in whole pixels.
 *
 * @param {[number, number, number, number]|null|undefined} box null: the middle.
 * @param {Size} input
 */
export function cropBox(box, input) {
  const most = Math.min(input.height, input.width);
  const [top, left, bottom, right] = clamped(box ?? [0, 0, input.height, input.width], input);
  const side = Math.round(Math.min(most, Math.max(bottom - top, right - left, most / 6) * 1.1));
  const y = Math.round(within((top + bottom - side) / 2, input.height - side));
  const x = Math.round(within((left + right - side) / 2, input.width - side));
  return [y, x, y + side, x + side];
}

/** Points that a crop is shown wide, at most. */
export const CROP = 88;

/**
 * Shows a square crop of an image around its box, with some of what surrounds it.
 *
 * @param {Seen} image
 * @param {{input: Size, alt: string, eager?: boolean}} of as of `wholeImage`.
 */
export function crop(image, { input, alt, eager = false }) {
  return h(
    "div",
    { class: "image-box" },
    h("img", {
      src: imageUrl(image.image, { shown: CROP, box: cropBox(image.box, input) }),
      alt,
      loading: eager ? null : "lazy",
      decoding: "async",
    }),
  );
}

const within = (value, most) => Math.max(0, Math.min(value, most));

const clamped = ([top, left, bottom, right], { height, width }) => [
  within(top, height),
  within(left, width),
  within(bottom, height),
  within(right, width),
];

/** Draws a response map: warm where positive, cool where negative, clear at zero. */
function heat(map, scale) {
  const rows = map.length;
  const columns = map[0].length;
  const canvas = h("canvas", { width: columns, height: rows, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(columns, rows);
  const most = scale || Math.max(...map.flat().map(Math.abs)) || 1;
  map.flat().forEach((value, at) => {
    const strength = Math.min(1, Math.abs(value ?? 0) / most);
    pixels.data.set(value > 0 ? [255, 140, 40] : [60, 140, 255], 4 * at);
    pixels.data[4 * at + 3] = Math.round(230 * strength ** 1.1);
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}
