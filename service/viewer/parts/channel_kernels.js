/** The kernels that make a channel, or those that read it, the largest first. */

/** @import { ChannelAnswer, ChannelKernelRow } from "openapi" */

import { to } from "../address.js";
import { get } from "../api.js";
import { h } from "../dom.js";
import { count, measure, ratio } from "../figures.js";
import { tableFiles } from "../menu.js";
import { panel } from "../panel.js";
import { table } from "../table.js";

const SHOWN = 12;
const ENDS = {
  in: { title: "Kernels in", head: "From", note: "[Kernels|kernel] that make this channel, the largest by the norm of their weights first." },
  out: { title: "Kernels out", head: "To", note: "[Kernels|kernel] that read this channel, the largest by the norm of their weights first." },
};

/**
 * Makes the panel of one end.
 *
 * @param {ChannelAnswer} facts
 * @param {"in"|"out"} end
 */
export function channelKernels({ convolution, channel }, end) {
  const { title, head, note } = ENDS[end];
  /** @type {readonly ["channels", string, string, "kernels"]} */
  const path = ["channels", convolution, String(channel), "kernels"];
  return panel({
    title,
    width: "half",
    height: "20rem",
    note: `${note} Sum: of the weights; below 0, the kernel mostly inhibits.`,
    key: () => null,
    load: () => get(path, { end, limit: SHOWN }),
    empty: (found) =>
      found.rows.length
        ? null
        : end === "out"
          ? "No convolution of the atlas' networks reads this channel."
          : "The weights of its convolution are not stored.",
    draw: (found) => [
      table({
        caption: found.total > SHOWN ? `The largest ${SHOWN} of ${count(found.total, "kernel")}` : count(found.total, "kernel"),
        columns: [
          { name: "other", title: head },
          { name: "weight_norm", title: "Norm", number: true },
          { name: "weight_sum", title: "Sum", number: true },
        ],
        rows: found.rows.map((row) => ({
          other: other(row, end),
          weight_norm: measure(row.weight_norm),
          weight_sum: row.weight_sum === null ? "–" : ratio(row.weight_sum),
        })),
      }),
    ],
    files: () => tableFiles(path, { end }, "all"),
  });
}

/**
 * Names the channel at the other end of a kernel, with a link.
 *
 * @param {ChannelKernelRow} row
 * @param {"in"|"out"} end
 */
function other(row, end) {
  if (end === "out") return link(row.convolution, row.out_channel);
  if (row.source === null) return `the image's channel ${row.in_channel}`;
  if (row.source_channel === null) return `${row.source}, mixed`;
  return link(row.source, row.source_channel);
}

const link = (convolution, channel) =>
  h("a", { href: to("channel", { layer: convolution, channel }) }, `${convolution} `, h("b", null, String(channel)));
