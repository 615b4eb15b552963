/** A unit's sub-features: its top images in groups by which kernels they use. */

/**
 * @import { AtlasFacts, FeatureRow, GroupedImage, GroupsAnswer, SelectivityRow, UnitAnswer } from "openapi"
 * @import { State } from "../address.js"
 */

import { change, changed, step, to } from "../address.js";
import { all, unitPath } from "../api.js";
import {
  contrastChart,
  contrastFile,
  groupColor,
  groupLabel,
  keptByGroup,
  shareOf,
  unselective,
} from "../contrast.js";
import { fresh, h } from "../dom.js";
import { count, groupName, imageText, ratio } from "../figures.js";
import { menu, tableFiles } from "../menu.js";
import { panel } from "../panel.js";
import { imageSheet } from "../image_sheet.js";
import { CROP } from "../image_view.js";
import { reading } from "../reading.js";
import { FEATURE, featureUrl, storedFeatures } from "./features.js";
import { term } from "../term.js";
import { groupsOf } from "./subset.js";

const NUMBERS = [2, 3, 4, 5, 6];
/** Comparisons of a group that have a link each. */
const LINKS = 3;

/**
 * Makes the panel of sub-features.
 *
 * @param {AtlasFacts} atlas
 * @param {UnitAnswer} facts
 * @param {{layer: string, unit: string}} of
 */
export function groups(atlas, facts, { layer, unit }) {
  const id = fresh("groups");
  const number = h(
    "select",
    { id, onchange: () => change({ groups: number.value || null, group: null }) },
    h("option", { value: "" }, "as found"),
    NUMBERS.filter((count) => count < facts.top.length).map((count) =>
      h("option", { value: count }, String(count)),
    ),
  );
  const made = panel({
    title: "Sub-features",
    height: "16rem",
    controls: [
      facts.has.groups && h("div", { class: "field" }, h("label", { for: id }, "Groups"), number),
    ],
    note: "[Top images] in [groups|group] by the [kernels|kernel] that the unit sees them through. The curve of a group's circuit shows how much it preserves on its own images, dashed: on the others'.",
    key: (now) => {
      const { criterion, ablation } = reading(now, atlas);
      return { criterion, ablation, groups: now.groups };
    },
    look: (now) => [reading(now, atlas).level, now.group],
    load: (now) => loadGroups(atlas, facts, reading(now, atlas), now.groups),
    empty: (found) =>
      found.groups.rows.length
        ? null
        : found.old
          ? "This atlas was built by an older `circuit-atlas` and has no groups: build it again into another store."
          : found.criterion === "learned"
            ? found.number && atlas.group_criteria.includes("learned")
              ? "Groups that are found anew have no learned circuits: choose “as found”."
              : "This atlas has no learned circuits of groups: `groups = true` in `[learned]` trains them."
            : `No groups are stored for ${found.criterion}: they need scores of single images.`,
    draw: (found, now) => {
      number.value = now.groups ?? "";
      return draw(found, now, { atlas, facts, layer, unit });
    },
    files: (found, now) => {
      if (found.groups.rows.length === 0) return [];
      const { criterion, number: many } = found;
      const { ablation } = reading(now, atlas);
      const drawings = made.element.querySelectorAll(".group .chart svg");
      const kept = keptByGroup(found.selectivity, atlas.fractions);
      return [
        ...tableFiles(unitPath(layer, unit, "groups"), { criterion, groups: many }, "groups"),
        ...(kept.length
          ? tableFiles(
              unitPath(layer, unit, "selectivity"),
              { criterion, ablation, groups: many },
              "preserved and leaked",
            )
          : []),
        ...(kept.length && !many
          ? tableFiles(unitPath(layer, unit, "selectivity-by-image"), {}, "by image")
          : []),
        ...[...drawings].map((drawing, at) => contrastFile(drawing, kept[at], { layer, unit })),
      ];
    },
  });
  return made;
}

/**
 * What is stored of a unit's groups; `old`: set where the atlas is older than groups are.
 *
 * @typedef {object} StoredGroups
 * @property {string} criterion
 * @property {string} [number] of groups, where they were found anew.
 * @property {Partial<GroupsAnswer>} groups
 * @property {SelectivityRow[]} selectivity
 * @property {FeatureRow[]} features
 * @property {boolean} [old]
 */

/**
 * Gets groups, selectivity and feature visualizations of a unit, as far as they are stored.
 *
 * @param {AtlasFacts} atlas
 * @param {UnitAnswer} facts
 * @param {{criterion: string, ablation: string}} chosen
 * @param {string} [number] of groups, found anew: their circuits never ran, and the shares are of
 *   the images' scores.
 * @returns {Promise<StoredGroups>}
 */
export async function loadGroups(atlas, facts, { criterion, ablation }, number) {
  const { layer, name } = facts;
  const none = { criterion, number, groups: { rows: [] }, selectivity: [], features: [] };
  if (!facts.has.groups) return { ...none, old: true };
  const known = number ? atlas.image_criteria : atlas.group_criteria;
  if (!known.includes(criterion)) return none;
  const groups = groupsOf(layer, name, criterion, number);
  const [selectivity, features] = await Promise.all([
    all(unitPath(layer, name, "selectivity"), { criterion, ablation, groups: number }),
    number ? [] : storedFeatures(facts),
  ]);
  return {
    criterion,
    number,
    groups: await groups,
    selectivity,
    features,
  };
}

/**
 * Lists the images of each group, the largest group first.
 *
 * @param {StoredGroups} found
 * @returns {[number, GroupedImage[]][]}
 */
function byGroup(found) {
  const groups = new Map();
  for (const row of found.groups.rows) {
    if (!groups.has(row.group)) groups.set(row.group, []);
    groups.get(row.group).push(row);
  }
  return [...groups].sort(([a], [b]) => a - b);
}

/**
 * @param {StoredGroups} found
 * @param {State} now
 * @param {{atlas: AtlasFacts, facts: UnitAnswer, layer: string, unit: string}} of
 */
function draw(found, now, { atlas, facts, layer, unit }) {
  const chosen = reading(now, atlas);
  const kept = keptByGroup(found.selectivity, atlas.fractions);
  const all = byGroup(found);
  const { silhouette, polysemanticity, rejected } = found.groups;
  const note = all.length > 1 ? unselective(kept, chosen.level) : null;
  return [
    h(
      "p",
      { class: "lead" },
      all.length === 1
        ? oneGroup(rejected)
        : [`${count(all.length, "group")}, `, term("silhouette", "silhouette"), ` ${ratio(silhouette)}`],
      polysemanticity !== null &&
        all.length > 1 && [", ", term("polysemanticity", "polysemanticity"), ` ${ratio(polysemanticity)}`],
      all.length > 1 && [
        ". ",
        h("a", { href: compareLink(layer, unit, [0, 1], found.number) }, "Compare groups A and B"),
      ],
    ),
    all.length > 1 &&
      found.number &&
      h(
        "p",
        { class: "note" },
        "Groups of your choice: their circuits never ran, so the curves are shares of the images' scores, not of the response.",
      ),
    note && h("p", { class: "message" }, note),
    all.length > 1 && h(
      "ul",
      { class: "groups" },
      all.map(([group, images]) =>
        groupCard(group, images, {
          kept: kept.find((one) => one.group === group),
          features: found.features.filter((row) => row.group === group),
          others: all.map(([other]) => other).filter((other) => other !== group),
          chosen,
          shown: now.group === String(group),
          number: found.number,
          atlas,
          facts,
          layer,
          unit,
        }),
      ),
    ),
  ];
}

/**
 * Says why a unit's images are one group.
 *
 * @param {GroupsAnswer["rejected"]} [split] the best one, which did not pass.
 */
function oneGroup(split) {
  if (!split) return "One group: all its top images.";
  const { groups, silhouette, apart, needed, chance } = split;
  const why =
    chance === null
      ? `their images are ${ratio(apart)} apart, below ${ratio(needed, 1)}`
      : `${ratio(100 * chance, 0)} of 100 samples of one group split as well, above 5`;
  return [
    "One group: no split passed the test. The best, into ",
    h("a", { href: changed({ groups: String(groups), group: null }) }, count(groups, "group")),
    `, has a silhouette of ${ratio(silhouette)}, and ${why}.`,
  ];
}

const compareLink = (layer, unit, [left, right], groups) =>
  to("compare", {
    "left.groups": groups,
    "right.groups": groups,
    "left.layer": layer,
    "left.unit": unit,
    "left.group": String(left),
    "right.layer": layer,
    "right.unit": unit,
    "right.group": String(right),
  });

function groupCard(group, images, of) {
  const { kept, features, others, chosen, shown, number, atlas, facts, layer, unit } = of;
  const link = to("unit", { layer, unit, groups: number, group: shown ? null : String(group) });
  const tops = new Map((facts.top ?? []).map((top) => [top.image, top]));
  const seen = images.map((image) => tops.get(image.image) ?? image);
  const crops = imageSheet(seen, { input: atlas.input, shown: CROP, cropped: true });
  return h(
    "li",
    { class: "group", style: { "--group": groupColor(group) } },
    h(
      "div",
      { class: "line" },
      h("h3", null, groupLabel(group)),
      h("span", { class: "dim" }, count(images.length, "image")),
    ),
    h(
      "div",
      { class: "group-images" },
      features.slice(0, 1).map((row) =>
        h(
          "div",
          { class: "image-box feature" },
          h("img", { src: featureUrl(row, layer, unit, FEATURE), alt: `Feature visualization of group ${groupName(group)}` }),
        ),
      ),
      seen.map((image, at) =>
        h(
          "a",
          { href: to("image", { image: image.image, layer }) },
          crops(at, imageText({ name: `image ${image.image}`, ...image })),
        ),
      ),
    ),
    kept
      ? contrastChart(kept, {
          fractions: atlas.fractions,
          level: chosen.level,
          measured: !number,
          onLevel: (level) => step("keep", String(atlas.fractions[level])),
        })
      : null,
    kept &&
      h(
        "p",
        { class: "legend" },
        h(
          "span",
          { style: { color: groupColor(group) } },
          h("i", { class: "swatch" }),
          `${shareOf(!number)}: its own ${ratio(kept.own[chosen.level])}`,
        ),
        others.length > 0 &&
          h("span", null, h("i", { class: "swatch dashed" }), `the others' ${ratio(kept.others[chosen.level])}`),
      ),
    h(
      "div",
      { class: "actions" },
      h(
        "a",
        { class: "button", href: link, "aria-pressed": null, "data-key": `group-${group}` },
        shown ? "Circuit of all images" : "Show its circuit",
      ),
      comparisons(group, of),
    ),
  );
}

/** Links to comparisons of a group with each other one; where they are many, in a list to open. */
function comparisons(group, { others, number, layer, unit }) {
  const link = (other, text, look) =>
    h("a", { class: look, href: compareLink(layer, unit, [group, other], number) }, text);
  if (others.length <= LINKS) {
    return others.map((other) => link(other, `Compare with ${groupName(other)}`, "button plain"));
  }
  return menu("Compare with", () => others.map((other) => h("li", null, link(other, groupLabel(other)))), {
    name: `Compare group ${groupName(group)} with another`,
  });
}
