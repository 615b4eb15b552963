/** How many of each: bars that may be links. */

import { h, onWidth, put, s, style } from "./dom.js";
import { whole } from "./figures.js";

const HEIGHT = 150;

/**
 * @typedef {object} Histogram
 * @property {string} label what the chart shows, for those who do not see it.
 * @property {Array<{name: string, count: number, link?: string, chosen?: boolean, other?: boolean,
 *   says?: string}>} bins `other`: stands apart, as what is in no bin; `says`: in full.
 * @property {string} [title] of the axis.
 * @property {number} [height] in pixels.
 * @property {boolean} [bare] small, without counts.
 */

/**
 * Draws a histogram, as wide as its parent.
 *
 * @param {Histogram} of
 */
export function histogram(of) {
  const host = h("div", { class: `chart histogram ${of.bare ? "bare" : ""}` });
  style(host, { "min-height": `${of.height ?? HEIGHT}px` });
  onWidth(host, (width) => put(host, bars(of, width)));
  return host;
}

/**
 * @param {Histogram} of
 * @param {number} width in pixels.
 */
function bars({ label, bins, title, height = HEIGHT, bare = false }, width) {
  const bottom = bare ? 14 : title ? 36 : 20;
  const top = bare ? 3 : 16;
  const most = Math.max(1, ...bins.map((bin) => bin.count));
  const gap = bins.some((bin) => bin.other) ? 12 : 0;
  const step = (width - gap) / bins.length;
  const wide = Math.max(2, Math.min(step - (bare ? 1.5 : 4), 56));
  // Where there is no room for every name: of every second bin, the largest fraction among them.
  const last = bins.findLastIndex((bin) => !bin.other);
  const named = (bin, at) =>
    bare ? at === 0 || at === bins.length - 1 : step > 36 || bin.other || (last - at) % 2 === 0;
  const links = bins.some((bin) => bin.link);
  return s(
    "svg",
    {
      width,
      height,
      viewBox: `0 0 ${width} ${height}`,
      role: links ? "group" : "img",
      "aria-label": label,
    },
    bins.map((bin, at) => {
      const middle = step * (at + 0.5) + (bin.other ? gap : 0);
      const tall = ((height - top - bottom) * bin.count) / most;
      const y = height - bottom - Math.max(tall, bin.count ? 1.5 : 0);
      const drawn = [
        s("rect", { class: "reach", x: middle - step / 2, y: 0, width: step, height }),
        s("rect", {
          class: "bar",
          x: middle - wide / 2,
          y,
          width: wide,
          height: height - bottom - y,
          rx: 1,
        }),
        !bare &&
          bin.count > 0 &&
          s("text", { class: "count", x: middle, y: y - 4, "text-anchor": "middle" }, whole(bin.count)),
        named(bin, at) &&
          s(
            "text",
            {
              x: bare && at === 0 ? 0 : bare ? width : middle,
              y: height - bottom + 13,
              "text-anchor": bare && at === 0 ? "start" : bare ? "end" : "middle",
            },
            bin.name,
          ),
      ];
      const kind = `bin${bin.other ? " other" : ""}${bin.chosen ? " chosen" : ""}`;
      const says = bin.says ?? `${bin.name}: ${whole(bin.count)}`;
      return bin.link
        ? s("a", { class: kind, href: bin.link, "aria-label": says, "data-key": `bin-${at}` }, drawn)
        : s("g", { class: kind }, s("title", null, says), drawn);
    }),
    s("line", { class: "base", x1: 0, x2: width, y1: height - bottom, y2: height - bottom }),
    title &&
      s("text", { class: "title", x: width / 2, y: height - 4, "text-anchor": "middle" }, title),
  );
}
