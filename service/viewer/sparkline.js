/** r against the kept fraction, as small as a word. What it says stands in words beside it. */

import { s } from "./dom.js";

const WIDTH = 92;
const HEIGHT = 26;

/**
 * @param {number[]} fractions the kept fractions, largest first.
 * @param {(number|null)[]} values r at each level.
 * @param {{threshold: number, level?: number}} marks
 */
export function sparkline(fractions, values, { threshold, level }) {
  const least = Math.log(Math.min(...fractions)) || -1;
  const x = (at) => 2 + (WIDTH - 4) * (1 - Math.log(fractions[at]) / least);
  const y = (value) => 2 + (HEIGHT - 4) * (1 - Math.max(0, Math.min(1, value ?? 0)));
  const points = fractions.map((_, at) => `${x(at).toFixed(1)},${y(values[at]).toFixed(1)}`);
  return s(
    "svg",
    {
      class: "sparkline",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      width: WIDTH,
      height: HEIGHT,
      "aria-hidden": "true",
    },
    s("line", { class: "threshold", x1: 2, x2: WIDTH - 2, y1: y(threshold), y2: y(threshold) }),
    s("line", { class: "base", x1: 2, x2: WIDTH - 2, y1: y(0), y2: y(0) }),
    s("polyline", { points: points.join(" ") }),
    level !== undefined && s("circle", { cx: x(level), cy: y(values[level]), r: 2.4 }),
  );
}
