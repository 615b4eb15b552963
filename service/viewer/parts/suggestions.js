/** Suggests what to compare a circuit with, where nothing is chosen yet. */

/**
 * @import { AtlasFacts } from "openapi"
 * @import { State } from "../address.js"
 * @import { ResolvedSide } from "./side.js"
 */

import { changed } from "../address.js";
import { get, unitPath } from "../api.js";
import { h } from "../dom.js";
import { reading } from "../reading.js";
import { asSide } from "./side.js";
import { groupsOf } from "./subset.js";

const NEAR = 5;

/**
 * Makes links for what has no right side yet.
 *
 * @param {{left: ResolvedSide|null}} sides
 * @param {State} now
 * @param {AtlasFacts} atlas
 */
export async function suggestions({ left }, now, atlas) {
  if (!left) return [];
  const chosen = reading(now, atlas);
  const found = [];
  if (left.facts.has.groups && atlas.group_criteria.includes(chosen.criterion)) {
    const groups = await groupsOf(left.layer, left.unit, chosen.criterion);
    if (new Set(groups.rows.map((row) => row.group)).size > 1) {
      found.push([
        "its groups A and B",
        changed({
          ...asSide("left", { layer: left.layer, unit: left.unit, group: "0" }),
          ...asSide("right", { layer: left.layer, unit: left.unit, group: "1" }),
        }),
      ]);
    }
  }
  const near = await get(unitPath(left.layer, left.unit, "similar"), {
    criterion: chosen.criterion,
    keep: chosen.keep,
    limit: NEAR,
  }).catch(() => ({ rows: [] }));
  for (const row of near.rows) {
    found.push([
      `unit ${row.name}`,
      changed(asSide("right", { layer: left.layer, unit: String(row.name) })),
    ]);
  }
  return found;
}

/** Says what to do, with the links. */
export function chooseFirst({ left, suggested = [] }) {
  return [
    h(
      "p",
      { class: "message" },
      left
        ? "Choose a unit for the right side."
        : "Choose a unit on both sides: its number, or its direction's name.",
    ),
    suggested.length > 0 &&
      h(
        "p",
        { class: "suggested" },
        "Or: ",
        suggested.map(([text, link], at) => [at ? ", " : "", h("a", { href: link }, text)]),
      ),
  ];
}
