/** Map: a unit's images by which kernels they use, and the circuit of those one chooses. */

/**
 * @import { AtlasFacts, MapAnswer, MapPoint } from "openapi"
 * @import { State } from "../address.js"
 */

import { change, state } from "../address.js";
import { get, unitPath } from "../api.js";
import { groupColor } from "../contrast.js";
import { unitCrumbs } from "../crumbs.js";
import { h, put } from "../dom.js";
import { count, groupName, percent } from "../figures.js";
import { badge, heading } from "../heading.js";
import { useful } from "../live.js";
import { tableFiles } from "../menu.js";
import { panel } from "../panel.js";
import { diagramPanel } from "../parts/diagram.js";
import { projection } from "../parts/projection.js";
import { selection } from "../parts/selection.js";
import { list } from "../parts/subset.js";
import { reading, readingBar } from "../reading.js";
import { segments } from "../segments.js";

/**
 * Makes the page.
 *
 * @param {State} now
 * @param {AtlasFacts} whole
 */
export async function mapPage({ layer, unit }, whole) {
  // Only by these are there circuits of single images.
  const scored = whole.image_criteria.length ? whole.image_criteria : whole.criteria;
  const atlas = { ...whole, criteria: scored };
  const facts = await get(unitPath(layer, unit));
  const of = { layer, unit };
  const bar = readingBar(atlas, { kernels: facts.reachable_kernels, parts: ["criterion", "keep"] });
  let points = [];
  let plane = null;
  const drawing = segments("Drawing around images", "draw", [
    ["choose", "Chooses"],
    ["add", "Adds"],
    ["remove", "Takes away"],
  ]);
  const query = (now) => ({ criterion: reading(now, atlas).criterion });
  const map = panel({
    title: "Its images, close where they use the same kernels",
    note: "A [map] of the unit's [top images]; draw around some to choose them, or press Space on one.",
    width: "two-thirds",
    height: "34rem",
    key: (now) => query(now),
    load: (now) => get(unitPath(layer, unit, "map"), query(now)),
    empty: (found) => (found.points.length ? null : "No scores of single images are stored."),
    draw: (found, now) => {
      points = found.points;
      plane = projection({
        points,
        input: atlas.input,
        onSelect: choose,
        drawing: () => state().draw,
      });
      plane.show(list(now.images));
      return [
        h(
          "div",
          { class: "chooser" },
          h("span", { class: "dim", "aria-hidden": "true" }, "Drawing"),
          drawing.element,
          quickChoices(points),
        ),
        plane.element,
        h("p", { class: "note" }, explained(found)),
      ];
    },
    files: (_, now) => tableFiles(unitPath(layer, unit, "map"), query(now)),
  });
  const chosen = selection(atlas, facts, of, () => points);
  const diagram = diagramPanel({
    atlas,
    title: "Diagram of the chosen images' circuit",
    note: "The [circuit] of the chosen images: channels in columns by depth, [kernels|kernel] as lines.",
    key: (now) => {
      const { criterion, keep } = reading(now, atlas);
      return { criterion, keep, images: list(now.images) };
    },
    locate: async (now) => {
      const { criterion, keep } = reading(now, atlas);
      return {
        path: unitPath(layer, unit, "diagram"),
        query: { criterion, keep, images: list(now.images).join(",") },
      };
    },
  });
  const under = h("div", { class: "panels under-map" });
  const done = facts.state === "done";
  const element = h(
    "div",
    null,
    heading({
      crumbs: unitCrumbs(of, facts.name),
      title: "Map of its images",
      beside: [done ? null : badge(facts.state)],
    }),
    done && bar.element,
    done
      ? h(
          "div",
          { class: "panels" },
          map.element,
          h("div", { class: "third" }, chosen.element),
        )
      : h("p", { class: "message" }, "This unit has no circuits, so there is nothing to map."),
    under,
  );
  return {
    get title() {
      const { name } = state();
      return name ? `${name}, ${layer}/${facts.name}` : `Map of ${layer}/${facts.name}`;
    },
    element,
    update(now) {
      if (!done) {
        useful("map");
        return;
      }
      bar.update(now);
      drawing.show(now.draw);
      map.update(now).then(() => useful("map"));
      plane?.show(list(now.images));
      chosen.update(now);
      const some = list(now.images).length > 0;
      if (some !== under.contains(diagram.element)) put(under, some ? diagram.element : null);
      if (some) diagram.update(now);
    },
  };
}

/** Chooses images; where there are none, the choice has no name either. */
const choose = (images) =>
  change(images.length ? { images: images.join(",") } : { images: null, name: null });

/**
 * Makes buttons for what one chooses often: all, none, a group.
 *
 * @param {MapPoint[]} points
 */
function quickChoices(points) {
  const groups = [...new Set(points.map((point) => point.group))]
    .filter((group) => group !== null)
    .sort((a, b) => a - b);
  const pick = (wanted) => () =>
    choose(points.filter(wanted).map((point) => point.image));
  return [
    groups.length > 1 &&
      groups.map((group) =>
        h(
          "button",
          {
            class: "button group-choice",
            type: "button",
            style: { "--group": groupColor(group) },
            onclick: pick((point) => point.group === group),
          },
          `Group ${groupName(group)}`,
        ),
      ),
    h("button", { class: "button", type: "button", onclick: pick(() => true) }, "All"),
    h("button", { class: "button", type: "button", onclick: pick(() => false) }, "None"),
  ];
}

/** @param {MapAnswer} found */
function explained(found) {
  const share = found.explained?.length
    ? `, with ${found.explained.map(percent).join(" and ")} of the variance`
    : "";
  return `${count(found.points.length, "top image")} of the unit. Images whose ${found.criterion} scores of kernels are alike lie close together. Axes: principal components of these scores${share}.`;
}
