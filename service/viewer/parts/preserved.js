/** How strongly the circuits of two groups of one unit preserve their own images, and the others'. */

/** @import { AtlasFacts } from "openapi" */

import { step } from "../address.js";
import { get, unitPath } from "../api.js";
import { contrastBars, contrastChart, contrastFile, groupLabel, keptByGroup } from "../contrast.js";
import { h } from "../dom.js";
import { tableFiles } from "../menu.js";
import { panel } from "../panel.js";
import { ablationText } from "../reading.js";
import { loadGroups } from "./groups.js";
import { SIDES, sideOf, sideReading } from "./side.js";

const colorOf = (side) => `var(--group-${SIDES.indexOf(side)})`;

/**
 * Makes the panel of what two groups of one unit preserve.
 *
 * @param {AtlasFacts} atlas
 * @param {(now) => unknown} key what the two circuits depend on.
 */
export function preserved(atlas, key) {
  const made = panel({
    title: "What each preserves and suppresses",
    note: "How much of its own images' [response] the circuit of each [group] keeps, and how much of the others': its [selectivity].",
    width: "half",
    key,
    load: async (now) => {
      const [left, right] = SIDES.map((side) => sideOf(now, side));
      const [chosen, other] = [left, right].map((own) => sideReading(own, now, atlas));
      const same = left.layer === right.layer && left.unit === right.unit;
      if (!same || !left.group || !right.group || left.groups !== right.groups) return null;
      if (chosen.criterion !== other.criterion) return null;
      const facts = await get(unitPath(left.layer, left.unit));
      if (!facts.has.selectivity) return null;
      const { selectivity, number } = await loadGroups(atlas, facts, chosen, left.groups);
      const kept = keptByGroup(selectivity, atlas.fractions);
      // In the order and the colours of the sides, as everywhere on this page.
      const groups = [left, right].map((own, at) => ({
        ...kept.find(({ group }) => String(group) === own.group),
        level: [chosen, other][at].level,
        color: colorOf(SIDES[at]),
      }));
      return { chosen, number, unit: { layer: left.layer, unit: left.unit }, groups };
    },
    empty: (found) =>
      found?.groups.every(({ own }) => own)
        ? null
        : "This is told of two groups of one unit, by the same score: choose one under Images on each side.",
    draw: ({ groups, chosen, number }) => [
      contrastBars(groups, atlas.fractions, { measured: !number }),
      h(
        "div",
        { class: "pair" },
        groups.map((one) =>
          h(
            "div",
            null,
            h("p", { class: "note" }, groupLabel(one.group, one.color), " its own images; dashed: the others'"),
            contrastChart(one, {
              fractions: atlas.fractions,
              level: one.level,
              measured: !number,
              onLevel: (wanted) => step("keep", String(atlas.fractions[wanted])),
            }),
          ),
        ),
      ),
      h(
        "p",
        { class: "note" },
        number
          ? "Shares of the images' scores: the circuits of groups that are not stored never ran."
          : `Response that a group's circuit preserves, divided by that of the whole network (${chosen.criterion}, dropped kernels ${ablationText(chosen.ablation)}).`,
      ),
    ],
    files: (found) => {
      if (!found.groups.every(({ own }) => own)) return [];
      const { chosen, number, unit, groups } = found;
      const { criterion, ablation } = chosen;
      const drawings = made.element.querySelectorAll(".pair .chart svg");
      return [
        ...tableFiles(unitPath(unit.layer, unit.unit, "selectivity"), { criterion, ablation, groups: number }, "all groups"),
        ...[...drawings].map((drawing, at) => contrastFile(drawing, groups[at], unit)),
      ];
    },
  });
  return made;
}
