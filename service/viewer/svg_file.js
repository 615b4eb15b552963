/** A chart as a file of its own, with what the page says beside it: its title and its lines' names. */

import { h, s } from "./dom.js";

const DRAWN = [
  "fill",
  "fill-opacity",
  "stroke",
  "stroke-width",
  "stroke-dasharray",
  "stroke-opacity",
  "opacity",
  "font-family",
  "font-size",
  "font-weight",
  "text-anchor",
];
const EDGE = 12;
const LINE = 18;
/** Pixels a letter takes at most, in the fonts of charts. */
const LETTER = 6;

/** @typedef {{name: string, color: string, dashed?: boolean}} Series */

/**
 * Makes a file of a chart.
 *
 * @param {SVGSVGElement} drawing as it stands in the page.
 * @param {object} of
 * @param {string} of.name of the file.
 * @param {string} of.title a line above it.
 * @param {Series[]} [of.series] lines to be told apart.
 * @returns {{name: string, type: string, text: string}}
 */
export function svgFile(drawing, { name, title, series = [] }) {
  const inside = { width: drawing.width.baseVal.value, height: drawing.height.baseVal.value };
  const words = [title, ...series.map((one) => one.name)];
  const widest = Math.max(...words.map((text) => text.length)) * LETTER + 40;
  const top = LINE + EDGE;
  const width = Math.ceil(Math.max(inside.width, widest) + 2 * EDGE);
  const height = Math.ceil(top + inside.height + series.length * LINE + 2 * EDGE);
  const copy = [...drawing.childNodes]
    .filter((node) => !(node instanceof Element && node.classList.contains("cursor")))
    .map((node) => node.cloneNode(true));
  const whole = s(
    "svg",
    { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" },
    s("title", null, title),
    s("rect", { class: "ground", width, height }),
    s("text", { class: "strong", x: EDGE, y: EDGE + 10 }, title),
    s("g", { transform: `translate(${EDGE} ${top})` }, copy),
    series.map((one, at) => legend(one, top + inside.height + EDGE + (at + 0.5) * LINE)),
  );
  // It has to stand in the page while the style sheets are asked what they say of it.
  const holder = h("div", { class: "chart lines unseen", "aria-hidden": "true" }, whole);
  document.body.append(holder);
  const elements = [whole, ...whole.querySelectorAll("*")];
  const styles = elements.map((element) => {
    const style = getComputedStyle(element);
    return DRAWN.map((property) => [property, style.getPropertyValue(property)]);
  });
  holder.remove();
  elements.forEach((element, at) => {
    for (const [property, value] of styles[at]) element.setAttribute(property, value);
    // Left in holder it would win over the attributes, and name colours that only the page knows.
    for (const own of ["style", "class", "tabindex", "data-key", "href"]) element.removeAttribute(own);
  });
  whole.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  return { name, type: "image/svg+xml", text: new XMLSerializer().serializeToString(whole) };
}

/**
 * @param {Series} line
 * @param {number} y
 */
function legend({ name, color, dashed }, y) {
  return s(
    "g",
    { class: dashed ? "series dashed" : "series" },
    s("polyline", { points: `${EDGE},${y} ${EDGE + 24},${y}`, style: { stroke: color } }),
    s("text", { x: EDGE + 32, y: y + 4 }, name),
  );
}
