/** What two circuits share: in all, and convolution by convolution. */

/** @import { Comparison, ConvolutionOverlap } from "openapi" */

import { h } from "../dom.js";
import { count, ratio, whole } from "../figures.js";
import { table } from "../table.js";
import { venn } from "../venn.js";

/**
 * Draws the discs, and the three numbers.
 *
 * @param {Comparison} found
 */
export function overlap(found) {
  const { shared, only_left: left, only_right: right, iou } = found;
  const words = `${count(shared, "kernel")} shared, ${whole(left)} only left, ${whole(right)} only right, IoU ${ratio(iou)}`;
  return h(
    "div",
    { class: "overlap" },
    venn({ left, shared, right }, words),
    h(
      "dl",
      null,
      h("div", { class: "left" }, h("dt", null, "only left"), h("dd", null, whole(left))),
      h("div", { class: "shared" }, h("dt", null, "shared"), h("dd", null, whole(shared))),
      h("div", { class: "right" }, h("dt", null, "only right"), h("dd", null, whole(right))),
    ),
    h("p", { class: "iou" }, "IoU ", h("b", null, ratio(iou))),
  );
}

/**
 * Makes a table with a row for each convolution: a bar as long as its kernels, in three parts.
 *
 * @param {ConvolutionOverlap[]} rows
 */
export function overlapTable(rows) {
  const most = Math.max(1, ...rows.map((row) => row.shared + row.left + row.right));
  return table({
    caption: "By convolution, from the image to the unit",
    columns: [
      { name: "convolution", title: "Convolution" },
      { name: "left", title: "Only left", number: true },
      { name: "shared", title: "Shared", number: true },
      { name: "right", title: "Only right", number: true },
      { name: "iou", title: "IoU", number: true },
      { name: "bar", title: h("span", { class: "unseen" }, "As a bar") },
    ],
    rows: rows.map((row) => ({
      convolution: h("span", { class: "mono" }, row.convolution),
      left: whole(row.left),
      shared: whole(row.shared),
      right: whole(row.right),
      iou: ratio(row.iou),
      bar: h(
        "div",
        { class: "stack bare", "aria-hidden": "true" },
        ["left", "shared", "right"].map((part) =>
          h("i", { class: part, style: { width: `${(100 * row[part]) / most}%` } }),
        ),
      ),
    })),
  });
}
