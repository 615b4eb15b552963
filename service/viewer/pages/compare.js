/** Compare: two circuits side by side and overlaid. */

import { change, to } from "../address.js";
import { get, unitPath } from "../api.js";
import { contrastBars, contrastChart, groupLabel, keptByGroup } from "../contrast.js";
import { h, put } from "../dom.js";
import { count, ratio } from "../figures.js";
import { heading } from "../heading.js";
import { announce, useful } from "../live.js";
import { panel } from "../panel.js";
import { diagramPanel } from "../parts/diagram.js";
import { loadGroups } from "../parts/groups.js";
import { overlap, overlapTable } from "../parts/overlap.js";
import { asSide, prefixed, resolved, sideOf, sidePicker } from "../parts/side.js";
import { featureOf, sideView } from "../parts/side_view.js";
import { chooseFirst, suggestions } from "../parts/suggestions.js";
import { ablationText, reading, readingBar } from "../reading.js";
import { segments } from "../segments.js";

export async function page(state, atlas) {
  const bar = readingBar(atlas, { parts: ["criterion", "keep"] });
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
    kind: "comparison",
    height: "24rem",
    key,
    load: async (now) => {
      const sides = await both(now);
      if (!sides.left || !sides.right) return { ...sides, suggested: await suggestions(sides, now, atlas) };
      const [found, left, right] = await Promise.all([
        get(["compare"], query(sides)),
        featureOf(sides.left),
        featureOf(sides.right),
      ]);
      return { ...sides, found, features: { left, right } };
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
    files: (data) =>
      data.found
        ? [
            jsonFile(data.found),
            {
              label: "CSV",
              detail: "by convolution",
              file: () => ({ name: "compare.csv", type: "text/csv", text: csv(data.found.convolutions) }),
            },
          ]
        : [],
  });
  const layers = panel({
    title: "Where they differ",
    place: "half",
    key,
    load: async (now) => {
      const sides = await both(now);
      return get(["compare"], query(sides));
    },
    draw: (found) => overlapTable(found.convolutions),
  });
  const contrast = panel({
    title: "What each preserves and suppresses",
    place: "half",
    key,
    load: async (now) => {
      const [left, right] = [sideOf(now, "left"), sideOf(now, "right")];
      const same = left.layer === right.layer && left.unit === right.unit;
      if (!same || !left.group || !right.group || left.groups || right.groups) return null;
      const chosen = reading({ ...now, criterion: left.criterion ?? now.criterion }, atlas);
      const facts = await get(unitPath(left.layer, left.unit));
      if (!facts.has.contrast) return null;
      const found = await loadGroups(atlas, facts, chosen);
      const wanted = [Number(left.group), Number(right.group)];
      const groups = keptByGroup(found.selectivity, atlas.fractions);
      return { chosen, groups: groups.filter(({ group }) => wanted.includes(group)) };
    },
    empty: (found) =>
      found?.groups.length
        ? null
        : "This is measured for two of the groups that are stored of one unit: choose them under Images on both sides.",
    draw: ({ groups, chosen }, now) => {
      const { rung, keep } = reading({ ...now, keep: now["left.keep"] ?? now.keep }, atlas);
      return [
        contrastBars(groups, { fraction: keep, rung }),
        h(
          "div",
          { class: "pair" },
          groups.map((one) =>
            h(
              "div",
              null,
              h("p", { class: "note" }, groupLabel(one.group), " its own images; dashed: the others'"),
              contrastChart(one, {
                fractions: atlas.fractions,
                rung,
                onRung: (wanted) => change({ keep: String(atlas.fractions[wanted]) }),
              }),
            ),
          ),
        ),
        h(
          "p",
          { class: "note" },
          `Response that a group's circuit leaves, over that of the whole network (${chosen.criterion}, dropped kernels ${ablationText(chosen.ablation)}).`,
        ),
      ];
    },
  });
  const overlay = diagramPanel({
    atlas,
    title: "Overlaid",
    key,
    locate: async (now) => {
      const sides = await both(now);
      return { path: ["compare", "diagram"], svg: ["compare", "diagram.svg"], query: query(sides) };
    },
  });
  const alone = ["left", "right"].map((side) =>
    diagramPanel({
      atlas,
      title: side === "left" ? "Left circuit" : "Right circuit",
      place: "half",
      key,
      prefix: `${side[0]}.d.`,
      locate: async (now) => {
        const found = await resolved(now, side, atlas);
        return {
          path: unitPath(found.layer, found.unit, "diagram"),
          svg: unitPath(found.layer, found.unit, "diagram.svg"),
          query: found.query,
        };
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
  const element = h(
    "div",
    null,
    heading({
      crumbs: [["Atlas", to("atlas")]],
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
    title: "Compare",
    element,
    update(now) {
      latest = now;
      bar.update(now);
      pickers.left.update(now);
      pickers.right.update(now);
      result.update(now).then(() => useful("compare"));
      const ready = now["left.unit"] && now["right.unit"];
      for (const part of [layers, contrast]) {
        part.element.hidden = !ready;
        if (ready) part.update(now);
      }
      const beside = now.show === "beside";
      const wanted = !ready ? [] : beside ? alone : [overlay];
      const elements = wanted.map((one) => one.element);
      const there = [...diagrams.children];
      if (there.length !== elements.length || elements.some((one, at) => there[at] !== one)) {
        put(diagrams, elements);
      }
      for (const one of wanted) one.update(now);
      choice.hidden = !ready;
      views.show(now.show);
    },
  };
}

const jsonFile = (found) => ({
  label: "JSON",
  file: () => ({ name: "compare.json", type: "application/json", text: JSON.stringify(found, null, 2) }),
});

function csv(rows) {
  const names = ["convolution", "depth", "left", "shared", "right", "iou"];
  return [names, ...rows.map((row) => names.map((name) => row[name] ?? ""))]
    .map((line) => line.join(","))
    .join("\n");
}
