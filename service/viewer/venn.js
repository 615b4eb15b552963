/** Draws two overlapping discs whose areas are the numbers. */

import { s } from "./dom.js";
import { whole } from "./figures.js";

const SIZE = { width: 260, height: 150 };

/** @param {{left: number, shared: number, right: number}} counts kernels of one side alone or both */
export function venn({ left, shared, right }, label) {
  const a = left + shared;
  const b = right + shared;
  const scale = Math.sqrt((62 * 62) / Math.max(a, b, 1));
  const ra = Math.max(2, Math.sqrt(a) * scale);
  const rb = Math.max(2, Math.sqrt(b) * scale);
  const unit = Math.PI * scale * scale;
  const apart = distance(ra, rb, shared * unit);
  const start = (SIZE.width - (ra + rb + apart)) / 2 + ra;
  const y = SIZE.height / 2;
  return s(
    "svg",
    {
      class: "venn",
      viewBox: `0 0 ${SIZE.width} ${SIZE.height}`,
      width: SIZE.width,
      height: SIZE.height,
      role: "img",
      "aria-label": label,
    },
    s("circle", { class: "left", cx: start, cy: y, r: ra }),
    s("circle", { class: "right", cx: start + apart, cy: y, r: rb }),
    s("title", null, `${whole(left)} / ${whole(shared)} / ${whole(right)}`),
  );
}

/** Finds how far apart two discs stand that overlap in such an area. */
function distance(a, b, area) {
  let near = Math.abs(a - b);
  let far = a + b;
  if (area <= 0) return far;
  for (let turn = 0; turn < 40; turn += 1) {
    const middle = (near + far) / 2;
    if (lens(a, b, middle) > area) near = middle;
    else far = middle;
  }
  return (near + far) / 2;
}

/** Gives the area of the overlap of discs of radii a and b whose centres are d apart. */
function lens(a, b, d) {
  if (d >= a + b) return 0;
  if (d <= Math.abs(a - b)) return Math.PI * Math.min(a, b) ** 2;
  const x = (d * d + a * a - b * b) / (2 * d);
  const part = (r, h) => r * r * Math.acos(Math.max(-1, Math.min(1, h / r))) - h * Math.sqrt(Math.max(0, r * r - h * h));
  return part(a, x) + part(b, d - x);
}
