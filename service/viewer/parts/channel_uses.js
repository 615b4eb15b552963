/** The units of a layer whose circuits hold kernels that make a channel. */

/** @import { AtlasFacts, ChannelAnswer } from "openapi" */

import { to } from "../address.js";
import { get } from "../api.js";
import { h } from "../dom.js";
import { count, percent, whole } from "../figures.js";
import { tableFiles } from "../menu.js";
import { pager, start } from "../pager.js";
import { panel } from "../panel.js";
import { reading } from "../reading.js";
import { table } from "../table.js";

const SHOWN = 60;

/**
 * Makes the panel of a layer's units that use a channel.
 *
 * @param {AtlasFacts} atlas
 * @param {ChannelAnswer} facts
 * @param {string} layer
 */
export function channelUses(atlas, { convolution, channel }, layer) {
  /** @type {readonly ["layers", string, "uses"]} */
  const path = ["layers", layer, "uses"];
  const query = (now) => {
    const { criterion, keep } = reading(now, atlas);
    return { criterion, keep, convolution, out: channel };
  };
  return panel({
    title: `Units of ${layer} that use it`,
    height: "14rem",
    note: "Units whose [circuit] at the chosen [kept fraction] holds kernels that make this channel, the largest share of the circuit's [score] first.",
    key: (now) => [query(now), now.from],
    load: (now) => get(path, { ...query(now), offset: start(now), limit: SHOWN }),
    empty: (found) => (found.total ? null : "No circuit of this layer holds a kernel of it: keep more."),
    draw: (found) => [
      table({
        caption: count(found.total, "unit"),
        columns: [
          { name: "unit", title: "Unit" },
          { name: "kernels", title: "Kernels", number: true },
          { name: "share", title: "Share of the score", number: true },
          { name: "rank", title: "Rank of the best", number: true },
        ],
        rows: found.rows.map((row) => ({
          unit: h("a", { href: to("unit", { layer, unit: row.name }) }, row.name),
          kernels: whole(row.kernels),
          share: percent(row.share),
          rank: whole(row.rank + 1),
        })),
      }),
      pager(found, "unit"),
    ],
    files: (_, now) => tableFiles(path, query(now)),
  });
}
