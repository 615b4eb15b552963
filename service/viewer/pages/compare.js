/** Compare: two circuits side by side and overlaid. */

/**
 * @import { AtlasFacts } from "openapi"
 * @import { State } from "../address.js"
 */

import { change } from "../address.js";
import { get, url } from "../api.js";
import { atlasCrumbs } from "../crumbs.js";
import { h, put } from "../dom.js";
import { count, ratio } from "../figures.js";
import { heading } from "../heading.js";
import { announce, useful } from "../live.js";
import { panel } from "../panel.js";
import { diagramPanel } from "../parts/diagram.js";
import { overlap, overlapTable } from "../parts/overlap.js";
import { preserved } from "../parts/preserved.js";
import { asSide, prefixed, resolved, SIDES, sideOf, sidePicker, sideTitle } from "../parts/side.js";
import { featureOf, sideView } from "../parts/side_view.js";
import { chooseFirst, suggestions } from "../parts/suggestions.js";
import { reading, readingBar } from "../reading.js";
import { segments } from "../segments.js";

/**
 * Makes the page.
 *
 * @param {State} state
 * @param {AtlasFacts} atlas
 */
export async function comparePage(state, atlas) {
  // Which ablation only tells apart what the circuits of groups preserve.
  const several = atlas.ablations.length > 1;
  const bar = readingBar(atlas, {
    parts: ["criterion", several && "ablation", "keep"].filter(Boolean),
  });
  const pickers = { left: sidePicker("left", atlas), right: sidePicker("right", atlas) };
  const key = (now) => [
    reading(now, atlas),
    Object.entries(now).filter(([name]) => /^(left|right)\./.test(name)),
  ];
  const both = async (now) => {
    const [left, right] = await Promise.all([
      resolved(now, "left", atlas),
      resolved(now, "right", atlas),
    ]);
    return { left, right };
  };
  const query = ({ left, right }) => ({ ...prefixed("left", left), ...prefixed("right", right) });
  const result = panel({
    title: "What they share",
    note: "The [kernels|kernel] in both [circuits|circuit] and in either alone; [IoU] is the first over all.",
    kind: "comparison",
    height: "24rem",
    key,
    load: async (now) => {
      const sides = await both(now);
      if (!sides.left || !sides.right) {
        const suggested = await suggestions(sides, now, atlas);
        return { ...sides, suggested, found: null, features: null };
      }
      const [found, left, right] = await Promise.all([
        get(["compare"], query(sides)),
        featureOf(sides.left),
        featureOf(sides.right),
      ]);
      return { ...sides, found, features: { left, right }, suggested: null };
    },
    draw: (data) => {
      if (!data.found) return [chooseFirst(data)];
      const { found } = data;
      announce(`${count(found.shared, "kernel")} shared, IoU ${ratio(found.iou)}`);
      return h(
        "div",
        { class: "compared" },
        sideView("left", data.left, found.left, data.features.left, atlas),
        overlap(found),
        sideView("right", data.right, found.right, data.features.right, atlas),
      );
    },
    files: (data) => (data.found ? [jsonFile(data)] : []),
    after: () => {
      refused = false;
      lay();
    },
    // Why there is nothing to compare is said here, once.
    failed: () => {
      refused = true;
      lay();
    },
  });
  const layers = panel({
    title: "Where they differ",
    note: "The same, convolution by convolution, from the image to the unit.",
    width: "half",
    key,
    load: async (now) => {
      const asked = query(await both(now));
      return { asked, found: await get(["compare"], asked) };
    },
    draw: ({ found }) => overlapTable(found.convolutions),
    files: ({ asked }) => [
      { label: "CSV", detail: "by convolution", href: url(["compare"], { ...asked, format: "csv" }) },
      {
        label: "Parquet",
        detail: "by convolution",
        href: url(["compare"], { ...asked, format: "parquet" }),
      },
      { label: "JSON", detail: "with the sums", href: url(["compare"], asked) },
    ],
  });
  const contrast = preserved(atlas, key);
  const overlay = diagramPanel({
    atlas,
    title: "Overlaid",
    note: "Both [circuits|circuit] in one drawing: channels in columns by depth, [kernels|kernel] as lines, coloured by whose they are.",
    key,
    locate: async (now) => {
      const sides = await both(now);
      return { path: ["compare", "diagram"], query: query(sides) };
    },
  });
  // Laid out for both, and looked at alike: one state in the address serves them.
  const alone = SIDES.map((side, number) =>
    diagramPanel({
      atlas,
      title: side === "left" ? "Left circuit" : "Right circuit",
      note: "The [circuit] by itself: channels in columns by depth, [kernels|kernel] as lines.",
      width: "half",
      key,
      onHover: (name) => alone[1 - number].mark(name),
      locate: async (now) => {
        const sides = await both(now);
        return { path: ["compare", "diagram"], query: { ...query(sides), side } };
      },
    }),
  );
  const views = segments("Diagrams", "show", [
    ["overlaid", "Overlaid"],
    ["beside", "Side by side"],
  ]);
  const choice = h("div", { class: "diagram-choice" }, views.element);
  const diagrams = h("div", { class: "panels" });
  const swap = h(
    "button",
    {
      class: "button",
      type: "button",
      onclick: () => change({ ...asSide("left", sideOf(latest, "right")), ...asSide("right", sideOf(latest, "left")) }),
    },
    "Swap sides",
  );
  let latest = state;
  let refused = false;
  const chosen = () => Boolean(latest["left.unit"] && latest["right.unit"]);

  /** Shows what follows the comparison where there can be something. */
  function lay() {
    contrast.element.hidden = !chosen();
    for (const part of [layers.element, choice, diagrams]) part.hidden = refused || !chosen();
  }

  const element = h(
    "div",
    null,
    heading({
      crumbs: atlasCrumbs(),
      title: "Compare circuits",
      actions: [swap],
    }),
    bar.element,
    h("div", { class: "sides" }, pickers.left.element, pickers.right.element),
    h("div", { class: "panels" }, result.element, contrast.element, layers.element),
    choice,
    diagrams,
  );
  return {
    get title() {
      const [left, right] = SIDES.map((side) => sideTitle(sideOf(latest, side)));
      return left && right ? `${left} against ${right}` : "Compare";
    },
    element,
    update(now) {
      latest = now;
      bar.update(now);
      pickers.left.update(now);
      pickers.right.update(now);
      result.update(now).then(() => useful("compare"));
      lay();
      const beside = now.show === "beside";
      const wanted = !chosen() ? [] : beside ? alone : [overlay];
      const elements = wanted.map((one) => one.element);
      const there = [...diagrams.children];
      if (there.length !== elements.length || elements.some((one, at) => there[at] !== one)) {
        put(diagrams, elements);
      }
      for (const one of chosen() ? [layers, contrast, ...wanted] : []) one.update(now);
      views.show(now.show);
    },
  };
}

/** Offers the comparison as a file, with each side's circuit as it was asked for. */
const jsonFile = ({ found, left, right }) => ({
  label: "JSON",
  file: () => ({
    name: "compare.json",
    type: "application/json",
    text: JSON.stringify(
      { address: location.href, asked: { left: left.query, right: right.query }, ...found },
      null,
      2,
    ),
  }),
});
