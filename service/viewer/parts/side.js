/** One side of a comparison: which circuit it is, chosen here. */

/**
 * @import { AtlasFacts } from "openapi"
 * @import { State } from "../address.js"
 * @import { Reading } from "../reading.js"
 */

import { change } from "../address.js";
import { all, get, unitPath } from "../api.js";
import { fresh, h, put } from "../dom.js";
import { count, groupName, percent } from "../figures.js";
import { reading } from "../reading.js";
import { calledGroup, groupsOf, list, subset } from "./subset.js";

const KEYS = ["layer", "unit", "criterion", "keep", "group", "groups", "images"];

/** @typedef {"left"|"right"} SideName */

/** @type {SideName[]} */
export const SIDES = ["left", "right"];

/**
 * A side's own part of the state; a key that the address lacks is undefined.
 *
 * @typedef {Partial<Record<"layer"|"unit"|"criterion"|"keep"|"group"|"groups"|"images", string>>} SideState
 */

/**
 * Reads a side's own part of the state: "left.unit" -> unit.
 *
 * @param {State} now
 * @param {SideName} side
 * @returns {SideState}
 */
export function sideOf(now, side) {
  return Object.fromEntries(KEYS.map((key) => [key, now[`${side}.${key}`]]));
}

/**
 * Names a side in a few words, such as `head/3 B`; null where no unit is chosen.
 *
 * @param {SideState} side
 */
export const sideTitle = ({ layer, unit, group, images }) =>
  layer && unit
    ? `${layer}/${unit}${group ? ` ${calledGroup(group)}` : images ? ` of ${count(list(images).length, "image")}` : ""}`
    : null;

/**
 * Gives the state changes that put a side's values into the address.
 *
 * @param {SideName} side
 * @param {SideState} values
 */
export const asSide = (side, values) =>
  Object.fromEntries(KEYS.map((key) => [`${side}.${key}`, values[key] ?? null]));

/**
 * Tells how a side is read: as the page, but for what the side says itself.
 *
 * @param {SideState} own
 * @param {State} now
 * @param {AtlasFacts} atlas
 */
export const sideReading = (own, now, atlas) =>
  reading({ ...now, criterion: own.criterion ?? now.criterion, keep: own.keep ?? now.keep }, atlas);

/** @typedef {Awaited<ReturnType<typeof resolved>>} ResolvedSide */

/**
 * Finds all that is known of a side before its circuit is asked for; null where no unit is chosen.
 *
 * @param {State} now
 * @param {SideName} side
 * @param {AtlasFacts} atlas
 */
export async function resolved(now, side, atlas) {
  const own = sideOf(now, side);
  if (!own.layer || !own.unit) return null;
  const chosen = sideReading(own, now, atlas);
  const [facts, asked] = await Promise.all([
    get(unitPath(own.layer, own.unit)),
    subset(own, chosen),
  ]);
  return { layer: own.layer, unit: own.unit, groups: own.groups, facts, chosen, ...asked };
}

/**
 * Gives a side's circuit as the parameters of a comparison.
 *
 * @param {SideName} side
 * @param {ResolvedSide} found
 */
export const prefixed = (side, found) => ({
  [`${side}.layer`]: found.layer,
  [`${side}.unit`]: found.unit,
  ...Object.fromEntries(
    Object.entries(found.query).map(([key, value]) => [`${side}.${key}`, value]),
  ),
});

/**
 * Makes the controls of a side.
 *
 * @param {SideName} side
 * @param {AtlasFacts} atlas
 */
export function sidePicker(side, atlas) {
  const title = side === "left" ? "Left" : "Right";
  const name = (key) => `${side}.${key}`;
  const layer = select(
    "Layer",
    atlas.layers.map((one) => [one.layer, one.layer]),
    (value) => change({ ...asSide(side, { layer: value }) }),
  );
  const units = h("datalist", { id: fresh("units") });
  const unit = input("Unit", units, (value) =>
    change({
      [name("layer")]: layer.control.value,
      [name("unit")]: value,
      [name("group")]: null,
      [name("groups")]: null,
      [name("images")]: null,
    }),
  );
  let groups = null;
  let turn = 0;
  const images = select("Images", [], (value) =>
    change({
      [name("group")]: value.startsWith("group:") ? value.slice(6) : null,
      [name("groups")]: value.startsWith("group:") ? groups : null,
      [name("images")]: value.startsWith("images:") ? value.slice(7) : null,
    }),
  );
  // As wide before its options are known as after: what follows stays where it is.
  images.control.classList.add("images");
  const criterion = select(
    "Score",
    [["", "as above"], ...atlas.criteria.map((one) => [one, one])],
    (value) => change({ [name("criterion")]: value || null }),
  );
  const keep = select(
    "Kept",
    [
      ["", "as above"],
      ...[...atlas.fractions].sort((a, b) => a - b).map((one) => [String(one), percent(one)]),
    ],
    (value) => change({ [name("keep")]: value || null }),
  );
  const element = h(
    "fieldset",
    { class: `side ${side}` },
    h("legend", null, title),
    layer.element,
    unit.element,
    images.element,
    criterion.element,
    keep.element,
  );
  return {
    element,
    async update(now) {
      turn += 1;
      const mine = turn;
      const own = sideOf(now, side);
      groups = own.groups ?? null;
      layer.control.value = own.layer ?? atlas.layers[0]?.layer ?? "";
      if (document.activeElement !== unit.control) unit.control.value = own.unit ?? "";
      listUnits(units, layer.control.value);
      criterion.control.value = own.criterion ?? "";
      keep.control.value = own.keep ?? "";
      const chosen = sideReading(own, now, atlas);
      const options = [["", "all scoring images"], ...(await subsets(own, chosen, atlas))];
      if (mine !== turn) return;
      const value = own.group ? `group:${own.group}` : own.images ? `images:${own.images}` : "";
      if (!options.some(([known]) => known === value)) {
        options.push([
          value,
          own.group ? `no group ${calledGroup(own.group)}` : count(list(own.images).length, "image"),
        ]);
      }
      put(
        images.control,
        options.map(([known, text]) => h("option", { value: known }, text)),
      );
      images.control.value = value;
    },
  };
}

/**
 * Offers the units of a layer that have circuits, where they are not offered yet.
 *
 * @param {HTMLDataListElement} list
 * @param {string} layer
 */
async function listUnits(list, layer) {
  if (!layer || list.dataset.layer === layer) return;
  list.dataset.layer = layer;
  // Without them a number can still be typed.
  const rows = await all(["layers", layer, "units"], { state: "done" }).catch(() => []);
  if (list.dataset.layer !== layer) return;
  put(
    list,
    rows.map(({ name, unit_label: stands, label }) =>
      h("option", { value: name }, stands ?? (label && `top image: ${label}`)),
    ),
  );
}

/**
 * Lists the groups of a side's unit, and its single top images.
 *
 * @param {SideState} own
 * @param {Reading} chosen
 * @param {AtlasFacts} atlas
 * @returns {Promise<string[][]>} values and texts.
 */
async function subsets(own, chosen, atlas) {
  if (!own.layer || !own.unit) return [];
  if (!atlas.group_criteria.includes(chosen.criterion)) return [];
  try {
    const facts = await get(unitPath(own.layer, own.unit));
    const scored = atlas.image_criteria.includes(chosen.criterion);
    const single = (scored ? facts.top : []).map((image) => [
      `images:${image.image}`,
      `only ${image.label ?? image.name}`,
    ]);
    if (!facts.has.groups) return single;
    const found = await groupsOf(own.layer, own.unit, chosen.criterion, own.groups);
    const groups = new Map();
    for (const row of found.rows) groups.set(row.group, (groups.get(row.group) ?? 0) + 1);
    return [
      ...[...groups]
        .sort(([a], [b]) => a - b)
        .map(([group, number]) => [
          `group:${group}`,
          `group ${groupName(group)}, ${count(number, "image")}`,
        ]),
      ...single,
    ];
  } catch {
    return []; // Said where the circuits are shown.
  }
}

function select(label, options, then) {
  const id = fresh("side");
  const control = h(
    "select",
    { id, onchange: () => then(control.value) },
    options.map(([value, text]) => h("option", { value }, text)),
  );
  return { control, element: h("div", { class: "field" }, h("label", { for: id }, label), control) };
}

function input(label, list, then) {
  const id = fresh("side");
  const control = h("input", {
    id,
    type: "text",
    size: 8,
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "number",
    list: list.id,
    onchange: () => then(control.value.trim() || null),
  });
  return { control, element: h("div", { class: "field" }, h("label", { for: id }, label), control, list) };
}
