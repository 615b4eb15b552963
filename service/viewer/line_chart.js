/**
 * Draws values against the kept fraction: lines, bands, a reference, and a mark that can be moved.
 */

import { h, onWidth, put, s, style } from "./dom.js";
import { percent, ratio } from "./figures.js";

const MARGIN = { top: 10, right: 14, bottom: 34, left: 38 };
const HEIGHT = 250;
/** More above, where it is said what the values are. */
const NAMED = 14;
const BARE = { top: 4, right: 4, bottom: 14, left: 4 };

/**
 * @param {object} of
 * @param {string} of.label what the chart shows, for those who do not see it.
 * @param {number[]} of.fractions the kept fractions, in any order; values come in the same order.
 * @param {Array<{name, values: (number|null)[], color: string, dashed?: boolean, faint?: boolean}>}
 *   of.series
 * @param {Array<{low: (number|null)[], high: (number|null)[], color: string}>} [of.bands]
 * @param {string} [of.value] what the values are, above their axis.
 * @param {number} [of.threshold] a line across.
 * @param {string} [of.crossed] what that line is called. Default: r and its value.
 * @param {number} [of.level] the chosen level: a line down.
 * @param {(level: number) => void} [of.onLevel] called with the level that is clicked.
 * @param {(level: number|null) => void} [of.onRead] called with the level under the pointer or the
 *   keyboard's mark, null when neither is there.
 * @param {number} [of.height] in pixels.
 * @param {boolean} [of.bare] small, without axes.
 */
export function lineChart(of) {
  const host = h("div", { class: `chart lines ${of.bare ? "bare" : ""}` });
  style(host, { "min-height": `${of.height ?? HEIGHT}px` });
  let read = null;
  const draw = (width) => {
    const { drawing, mark } = lines(of, width);
    put(host, drawing);
    const follow = (level) => {
      if (level === read) return;
      read = level;
      mark(level);
      of.onRead?.(level);
    };
    if (of.onLevel || of.onRead) listen(drawing, of, follow);
  };
  onWidth(host, draw);
  return host;
}

function scales({ fractions, series, bands = [], height = HEIGHT, bare, value }, width) {
  const margin = bare ? BARE : value ? { ...MARGIN, top: MARGIN.top + NAMED } : MARGIN;
  const least = Math.log(Math.min(...fractions));
  const across = width - margin.left - margin.right;
  const down = height - margin.top - margin.bottom;
  const values = [...series.flatMap((one) => one.values), ...bands.flatMap((band) => band.low)];
  const lowest = Math.min(0, ...values.filter((value) => value !== null && value !== undefined));
  const floor = lowest < 0 ? Math.max(-1, Math.floor(lowest * 5) / 5) : 0;
  const highest = Math.max(1, ...values.filter((value) => value !== null && value !== undefined));
  return {
    margin,
    floor,
    top: highest,
    height,
    width,
    x: (fraction) => margin.left + across * (least === 0 ? 1 : 1 - Math.log(fraction) / least),
    y: (value) => margin.top + (down * (highest - value)) / (highest - floor),
  };
}

function lines(of, width) {
  const scale = scales(of, width);
  const { x, y, margin, height, floor } = scale;
  const order = of.fractions.map((_, at) => at).sort((a, b) => of.fractions[a] - of.fractions[b]);
  const points = (values) =>
    order
      .filter((at) => values[at] !== null && values[at] !== undefined)
      .map((at) => [x(of.fractions[at]), y(values[at]), at]);
  const down = (level, kind) =>
    level !== null &&
    level !== undefined &&
    s("line", {
      class: kind,
      x1: x(of.fractions[level]),
      x2: x(of.fractions[level]),
      y1: margin.top,
      y2: height - margin.bottom,
    });
  const cursor = s("g", { class: "cursor" });
  const drawing = s(
    "svg",
    { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": of.label },
    of.bare ? bareAxis(of, scale) : axes(of, scale),
    of.threshold !== undefined && [
      s("line", {
        class: "threshold",
        x1: margin.left,
        x2: width - margin.right,
        y1: y(of.threshold),
        y2: y(of.threshold),
      }),
    ],
    down(of.level, "chosen"),
    (of.bands ?? []).map((band) => {
      const low = points(band.low);
      const high = points(band.high).reverse();
      const path = [...low, ...high].map(([px, py]) => `${px},${py}`).join(" ");
      return s("polygon", { class: "band", points: path, style: { fill: band.color } });
    }),
    [...of.series]
      .sort((a, b) => Number(b.faint ?? false) - Number(a.faint ?? false))
      .map((one) => line(one, points(one.values), of.bare)),
    cursor,
  );
  const mark = (level) => {
    cursor.replaceChildren();
    if (level === null) return;
    cursor.append(down(level, "reading-line"));
    for (const one of of.series) {
      const value = one.values[level];
      if (value === null || value === undefined) continue;
      cursor.append(
        s("circle", {
          cx: x(of.fractions[level]),
          cy: y(Math.max(floor, value)),
          r: 3.5,
          style: { fill: one.color },
        }),
      );
    }
  };
  return { drawing, mark };
}

function line(one, points, bare) {
  const path = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  const kind = `series${one.dashed ? " dashed" : ""}${one.faint ? " faint" : ""}`;
  return s(
    "g",
    { class: kind },
    s("polyline", { points: path, style: { stroke: one.color } }),
    !bare &&
      !one.faint &&
      points.map(([cx, cy]) => s("circle", { cx, cy, r: 2.2, style: { fill: one.color } })),
  );
}

/** Lists powers of ten, and between them 2 and 5 as far as there is room. */
function ticks(fractions, room) {
  const least = Math.min(...fractions);
  const found = [];
  for (let power = Math.ceil(Math.log10(least) - 1); power <= 0; power += 1) {
    for (const digit of room ? [1, 2, 5] : [1]) {
      const value = Number((digit * 10 ** power).toPrecision(3));
      if (value >= least * 0.999 && value <= 1) found.push(value);
    }
  }
  return found;
}

function axes(of, { x, y, margin, height, width, floor, top }) {
  const rows = [];
  for (let value = Math.ceil(floor * 5) / 5; value <= top + 1e-9; value += 0.2) {
    rows.push(Number(value.toFixed(1)));
  }
  return s(
    "g",
    { class: "axes" },
    rows.map((value) => [
      s("line", {
        class: value === 0 ? "base" : "grid",
        x1: margin.left,
        x2: width - margin.right,
        y1: y(value),
        y2: y(value),
      }),
      s("text", { x: margin.left - 7, y: y(value) + 4, "text-anchor": "end" }, ratio(value, 1)),
    ]),
    ticks(of.fractions, width > 420).map((value) => [
      s("line", {
        class: "tick",
        x1: x(value),
        x2: x(value),
        y1: height - margin.bottom,
        y2: height - margin.bottom + 4,
      }),
      s(
        "text",
        {
          x: x(value),
          y: height - margin.bottom + 16,
          "text-anchor": value === 1 ? "end" : "middle",
        },
        percent(value),
      ),
    ]),
    s(
      "text",
      { class: "title", x: (margin.left + width) / 2, y: height - 3, "text-anchor": "middle" },
      of.title ?? "kernels kept",
    ),
    of.value && s("text", { class: "title value", x: 0, y: 10 }, of.value),
    of.threshold !== undefined &&
      s(
        "text",
        { class: "title", x: margin.left + 4, y: y(of.threshold) - 4 },
        of.crossed ?? `r = ${String(of.threshold).replace(/^0/, "")}`,
      ),
  );
}

function bareAxis({ fractions }, { y, margin, height, width, floor }) {
  return s(
    "g",
    { class: "axes" },
    s("line", {
      class: "base",
      x1: margin.left,
      x2: width - margin.right,
      y1: y(Math.max(0, floor)),
      y2: y(Math.max(0, floor)),
    }),
    s("text", { x: margin.left, y: height - 2 }, percent(Math.min(...fractions))),
    s("text", { x: width - margin.right, y: height - 2, "text-anchor": "end" }, percent(1)),
  );
}

/** Lets the pointer and the arrow keys read the chart; a click and Enter choose. */
function listen(drawing, of, follow) {
  const order = of.fractions.map((_, at) => at).sort((a, b) => of.fractions[a] - of.fractions[b]);
  const { x } = scales(of, drawing.width.baseVal.value);
  let at = null;
  const under = (event) => {
    const pointed = event.clientX - drawing.getBoundingClientRect().left;
    return order.reduce((best, level) =>
      Math.abs(x(of.fractions[level]) - pointed) < Math.abs(x(of.fractions[best]) - pointed) ? level : best,
    );
  };
  drawing.setAttribute("tabindex", "0");
  drawing.dataset.key = "chart";
  drawing.setAttribute(
    "aria-label",
    `${of.label}. Arrow keys read values${of.onLevel ? ", Enter chooses the kept fraction" : ""}.`,
  );
  drawing.addEventListener("pointermove", (event) => {
    at = under(event);
    follow(at);
  });
  drawing.addEventListener("pointerleave", () => follow(null));
  drawing.addEventListener("blur", () => follow(null));
  drawing.addEventListener("click", (event) => of.onLevel?.(under(event)));
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step !== undefined) {
      const next = at === null ? order.indexOf(of.level ?? order[0]) : order.indexOf(at) + step;
      at = order[Math.max(0, Math.min(order.length - 1, next))];
      follow(at);
    } else if (event.key === "Enter" && at !== null && of.onLevel) of.onLevel(at);
    else return;
    event.preventDefault();
  });
}
