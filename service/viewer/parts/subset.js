/** Of which images a circuit is: all, a sub-feature group, or a list. Part of the address. */

/** @import { SideState } from "./side.js" */

import { get, unitPath } from "../api.js";
import { count, groupName } from "../figures.js";

/**
 * Resolves the circuit that a state names: as a query, and in words.
 *
 * @param {SideState} side
 *   `groups`: into how many the images are divided, where not into those that are stored.
 * @param {{criterion: string, keep: number}} chosen
 * @returns {Promise<{query: {criterion: string, keep: number, images?: string}, images: number[]|null, group: number|null, words: string}>}
 */
export async function subset(side, chosen) {
  const query = { criterion: chosen.criterion, keep: chosen.keep };
  let absent = "";
  if (side.group !== undefined && side.group !== "") {
    const group = Number(side.group);
    const found = await groupsOf(side.layer, side.unit, chosen.criterion, side.groups);
    const images = found.rows.filter((row) => row.group === group).map((row) => row.image);
    if (images.length) {
      return {
        query: { ...query, images: images.join(",") },
        images,
        group,
        words: `group ${groupName(group)}, ${count(images.length, "image")}`,
      };
    }
    absent = `: by ${chosen.criterion} there is no group ${calledGroup(side.group)}`;
  }
  const images = list(side.images);
  if (images.length) {
    const words = images.length === 1 ? `image ${images[0]} alone` : count(images.length, "image");
    return { query: { ...query, images: images.join(",") }, images, group: null, words };
  }
  return { query, images: null, group: null, words: `all scoring images${absent}` };
}

/** Names a group as an address does, in words: its letter, where it is a number. */
export const calledGroup = (text) => (/^\d+$/.test(text) ? groupName(Number(text)) : `“${text}”`);

/** Reads a list of numbers, each once: "3,1,3" -> [3, 1]. */
export const list = (text) => [
  ...new Set(
    (text ?? "")
      .split(",")
      .filter((part) => /^\d+$/.test(part))
      .map(Number),
  ),
];

/** Gets the unit's sub-feature groups by a score: those that are stored, or so many. */
export const groupsOf = (layer, unit, criterion, groups) =>
  get(unitPath(layer, unit, "groups"), { criterion, groups });
