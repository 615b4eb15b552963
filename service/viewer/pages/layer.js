/** Layer: its units as cards or as a table, sorted and filtered by what is stored of them. */

/**
 * @import { AtlasFacts, DistributionRow, LayerFacts } from "openapi"
 * @import { State } from "../address.js"
 */

import { changed, to } from "../address.js";
import { get } from "../api.js";
import { atlasCrumbs } from "../crumbs.js";
import { smallestCounts } from "../distribution.js";
import { h } from "../dom.js";
import { count, percent, whole } from "../figures.js";
import { filterBar, filterQuery } from "../filters.js";
import { heading } from "../heading.js";
import { histogram } from "../histogram.js";
import { announce, useful } from "../live.js";
import { tableFiles } from "../menu.js";
import { behind, pager, span, start } from "../pager.js";
import { panel } from "../panel.js";
import { cards } from "../parts/unit_cards.js";
import { unitTable } from "../parts/unit_table.js";
import { reading, readingBar, splitText, THRESHOLD } from "../reading.js";
import { segments } from "../segments.js";
import { svgFile } from "../svg_file.js";

const PAGE = 60;

/**
 * Makes the page.
 *
 * @param {State} state
 * @param {AtlasFacts} atlas
 */
export async function layerPage(state, atlas) {
  const layer = state.layer;
  const facts = await get(["layers", layer]);
  const bar = readingBar(atlas);
  const protocol = (now) => {
    const { criterion, ablation, split } = reading(now, atlas);
    return { criterion, ablation, split, threshold: THRESHOLD };
  };
  const query = (now) => ({
    ...protocol(now),
    at: reading(now, atlas).keep,
    ...filterQuery(now),
    sort: now.sort ?? "unit",
    order: now.order ?? "asc",
  });
  const sizes = panel({
    title: "Circuit size",
    note: `Each unit's smallest stored [circuit] with [r] ≥ ${THRESHOLD}. Choose a bar to show only its units.`,
    height: "150px",
    key: (now) => protocol(now),
    look: (now) => [now["min.fraction"], now["max.fraction"]],
    load: (now) => get(["layers", layer, "distribution"], protocol(now)),
    empty: (found) => (found.rows[0]?.units ? null : "No unit of this layer has a circuit yet."),
    draw: (found, now) => sizeHistogram(found.rows, now),
    files: (_, now) => [
      ...tableFiles(["layers", layer, "distribution"], protocol(now)),
      {
        label: "SVG",
        detail: "chart",
        file: () =>
          svgFile(sizes.element.querySelector(".chart svg"), {
            name: `circuit-size-${layer}.svg`,
            title: `Units of ${layer} by their smallest circuit with r ≥ ${THRESHOLD} on ${splitText(reading(now, atlas).split)}`,
          }),
      },
    ],
  });
  const filters = filterBar(layer);
  const views = segments("Show as", "view", [
    ["cards", "Cards"],
    ["table", "Table"],
  ]);
  const units = panel({
    title: "Units",
    note: `The [units|unit] of the layer, each with its smallest stored [circuit] with [r] ≥ ${THRESHOLD}, and its r at the chosen [kept fraction].`,
    height: "60vh",
    controls: [views.element],
    key: (now) => [query(now), now.from],
    look: (now) => [now.view, reading(now, atlas).level],
    load: (now) =>
      get(["layers", layer, "units"], {
        ...query(now),
        offset: start(now),
        limit: PAGE,
      }),
    empty: (found) => {
      filters.columns(found.columns);
      announce(count(found.total, "unit"));
      if (found.rows.length) return null;
      return behind(found, "unit") ?? "No unit matches: take a filter away.";
    },
    draw: (found, now) => {
      return [
        h(
          "p",
          { class: "note" },
          `${span(found, "unit")}, r at ${percent(reading(now, atlas).keep)} of the kernels`,
        ),
        now.view === "table" ? unitTable(found, now, layer, atlas) : cards(found.rows, now, layer, atlas),
        pager(found, "unit"),
      ];
    },
    files: (_, now) => tableFiles(["layers", layer, "units"], query(now)),
  });
  const element = h(
    "div",
    null,
    heading({
      crumbs: atlasCrumbs(),
      title: layer,
      facts: [
        ["Units", progressText(facts)],
        ["Response", facts.explained],
        ["Output", `${whole(facts.channels)} × ${facts.height} × ${facts.width}`],
        ["Kernels", whole(facts.kernels)],
        ["Convolutions", whole(facts.convolutions)],
      ],
      actions: [
        atlas.criteria.length > 1 &&
          h("a", { class: "button", href: to("criteria", { layer }) }, "Compare criteria"),
      ],
    }),
    bar.element,
    h("div", { class: "panels" }, sizes.element, filters.element, units.element),
  );
  return {
    title: layer,
    element,
    update(now) {
      bar.update(now);
      filters.update(now);
      views.show(now.view);
      sizes.update(now);
      units.update(now).then(() => useful("layer"));
    },
  };
}

/**
 * Says how far the layer is.
 *
 * @param {LayerFacts} facts
 */
function progressText(facts) {
  const parts = [
    [facts.done, "done"],
    [facts.dead, "dead"],
    [facts.failed, "failed"],
    [facts.missing, "not computed yet"],
  ].filter(([number]) => number);
  return parts.map(([number, text]) => `${whole(number)} ${text}`).join(", ") || "none";
}

/**
 * @param {DistributionRow[]} rows
 * @param {State} now
 */
function sizeHistogram(rows, now) {
  const { bins, none, units } = smallestCounts(rows);
  const low = now["min.fraction"];
  const high = now["max.fraction"];
  return histogram({
    label: `Smallest circuits with r ≥ ${THRESHOLD} of ${count(units, "unit")}`,
    title: "kernels kept",
    bins: [
      ...bins.map((bin) => {
        const chosen = low === String(bin.fraction) && high === String(bin.fraction);
        const value = chosen ? null : String(bin.fraction);
        return {
          ...bin,
          chosen,
          says: `${bin.says}${chosen ? ", chosen" : ""}`,
          link: changed({
            "min.fraction": value,
            "max.fraction": value,
            from: null,
          }),
        };
      }),
      { name: "none", count: none, other: true, says: `${count(none, "unit")} without one` },
    ],
    height: 150,
  });
}
