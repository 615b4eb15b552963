/** The circuit of the chosen images: its name, its counts, what it shares, and its files. */

/** @import { AtlasFacts, MapPoint, SelectivityRow, UnitAnswer } from "openapi" */

import { change, state, to } from "../address.js";
import { all, file, get, table, unitPath } from "../api.js";
import { tellsNoneApart } from "../contrast.js";
import { fresh, h, put } from "../dom.js";
import { count, percent, ratio, whole } from "../figures.js";
import { announce } from "../live.js";
import { save } from "../menu.js";
import { panel } from "../panel.js";
import { reading } from "../reading.js";
import { asSide } from "./side.js";
import { countTable } from "./circuit.js";
import { list } from "./subset.js";
import { term } from "../term.js";

/**
 * Makes the panel of the chosen images' circuit.
 *
 * @param {AtlasFacts} atlas
 * @param {UnitAnswer} facts
 * @param {{layer: string, unit: string}} of
 * @param {() => MapPoint[]} points what can be chosen, once it is known.
 */
export function selection(atlas, facts, { layer, unit }, points) {
  const id = fresh("name");
  const name = h("input", {
    id,
    type: "text",
    maxlength: 80,
    placeholder: "such as: fur, seen close",
    autocomplete: "off",
    "data-key": "name",
    // With each letter: a name that is typed is not lost where the next press is on the map.
    oninput: () => change({ name: name.value.trim() || null }, { replace: true }),
  });
  const copy = h(
    "button",
    { class: "button", type: "button", onclick: () => copyLink(copy) },
    "Copy link",
  );
  const made = panel({
    title: "Circuit of the chosen images",
    note: "The [kernels|kernel] with the largest mean [score] over the chosen images: a [sub-feature] circuit.",
    height: "20rem",
    key: (now) => {
      const { criterion, keep } = reading(now, atlas);
      return { criterion, keep, images: list(now.images) };
    },
    load: async (now) => {
      const images = list(now.images);
      const { criterion, keep } = reading(now, atlas);
      if (!images.length) return { images };
      const query = { criterion, keep, images: images.join(",") };
      const own = { "left.layer": layer, "left.unit": unit, ...prefixed("left", query) };
      const whole = { "right.layer": layer, "right.unit": unit, ...prefixed("right", { criterion, keep }) };
      const [found, shared, selectivity] = await Promise.all([
        get(unitPath(layer, unit, "circuit"), { ...query, limit: 1 }),
        get(["compare"], { ...own, ...whole }),
        atlas.image_criteria.includes(criterion)
          ? all(unitPath(layer, unit, "selectivity"), { criterion, images: query.images })
          : [],
      ]);
      return { images, query, found, shared, selectivity };
    },
    empty: ({ images }) =>
      images.length ? null : "No images are chosen: draw around some, or press Space on one.",
    draw: ({ images, query, found, shared, selectivity }, now) => {
      announce(
        `${count(images.length, "image")} chosen. Their circuit has ${count(found.kernels, "kernel")}, and shares ${ratio(shared.iou)} with that of all images.`,
      );
      const rest = points()
        .map((point) => point.image)
        .filter((image) => !images.includes(image));
      return [
        h(
          "p",
          { class: "lead" },
          h("b", null, whole(found.kernels)),
          ` of ${whole(found.reachable_kernels)} kernels, ${percent(query.keep)}, for ${count(images.length, "image")}. IoU with the circuit of all images: `,
          h("b", null, ratio(shared.iou)),
          ".",
        ),
        h("div", { class: "field name" }, h("label", { for: id }, "Name"), name, copy),
        h(
          "div",
          { class: "actions" },
          exportButton("JSON", () => asJson({ images, query, found, atlas, layer, unit, points })),
          exportButton("CSV", () => fetched(layer, unit, "circuit", { ...query, format: "csv" }, "csv")),
          exportButton("Parquet", () =>
            fetched(layer, unit, "circuit", { ...query, format: "parquet" }, "parquet"),
          ),
          exportButton("SVG", () => fetched(layer, unit, "diagram.svg", query, "svg")),
        ),
        h(
          "p",
          null,
          h("a", { href: to("unit", { layer, unit, images: images.join(",") }) }, "On the unit's page"),
          " · ",
          h(
            "a",
            {
              href: to("compare", {
                ...asSide("left", { layer, unit, images: images.join(",") }),
                ...asSide("right", { layer, unit }),
              }),
            },
            "Compare with all images",
          ),
          rest.length > 0 && [
            " · ",
            h(
              "a",
              {
                href: to("compare", {
                  ...asSide("left", { layer, unit, images: images.join(",") }),
                  ...asSide("right", { layer, unit, images: rest.join(",") }),
                }),
              },
              "Compare with the others",
            ),
          ],
        ),
        held(selectivity, reading(now, atlas).level),
        countTable(found.layers),
      ];
    },
  });
  return {
    element: made.element,
    update(now) {
      if (document.activeElement !== name) name.value = now.name ?? "";
      return made.update(now);
    },
  };
}

/**
 * Says how much of the images' scores the circuit holds.
 *
 * @param {SelectivityRow[]} rows empty where the score scores no single images.
 * @param {number} level
 */
function held(rows, level) {
  const row = rows.find((one) => one.level === level);
  if (!row || row.others === 0) return null;
  const { preserved, leaked } = row;
  return h(
    "p",
    null,
    term("Selectivity", "selectivity"),
    `, by scores: the circuit holds ${percent(preserved)} of what the chosen images score, and ${percent(leaked)} of what the others do. `,
    tellsNoneApart(preserved, leaked) && h("span", { class: "warn" }, "It preserves the others as well as the chosen: it tells no sub-feature apart."),
  );
}

const prefixed = (side, query) =>
  Object.fromEntries(Object.entries(query).map(([key, value]) => [`${side}.${key}`, value]));

function exportButton(text, make) {
  const button = h(
    "button",
    {
      class: "button",
      type: "button",
      "data-key": `save-${text}`,
      onclick: async () => {
        button.disabled = true;
        try {
          save(await make());
          announce(`${text} saved`);
        } catch (error) {
          announce(error.message);
          button.title = error.message;
        } finally {
          button.disabled = false;
        }
      },
    },
    `Save ${text}`,
  );
  return button;
}

/** Makes a file name out of what the reader called the selection. */
function fileName(ending) {
  const { name, layer, unit } = state();
  const words = (name ?? "").replaceAll(/[^\p{L}\p{N}_.-]+/gu, "-");
  return `${/[\p{L}\p{N}]/u.test(words) ? words : `${layer}-${unit}-images`}.${ending}`;
}

const TYPES = {
  csv: "text/csv",
  parquet: "application/vnd.apache.parquet",
  svg: "image/svg+xml",
};

async function fetched(layer, unit, answer, query, ending) {
  const text = await file(unitPath(layer, unit, answer), query);
  return { name: fileName(ending), type: TYPES[ending], text };
}

/** Writes the selection as a document: what was chosen, where it can be seen, and every kernel. */
async function asJson({ images, query, found, atlas, layer, unit, points }) {
  const chosen = points().filter((point) => images.includes(point.image));
  const document = {
    name: state().name ?? null,
    address: location.href,
    model: atlas.model,
    weights_sha256: atlas.weights_sha256,
    layer,
    unit,
    criterion: query.criterion,
    keep: query.keep,
    images: chosen.map(({ image, name, label }) => ({ image, name, label })),
    reachable_kernels: found.reachable_kernels,
    layers: found.layers,
    kernels: await table(unitPath(layer, unit, "circuit"), query),
  };
  return {
    name: fileName("json"),
    type: "application/json",
    text: JSON.stringify(document, null, 1),
  };
}

async function copyLink(button) {
  try {
    await navigator.clipboard.writeText(location.href);
    put(button, "Copied");
    announce("Link copied");
  } catch {
    put(button, "The address bar has it");
  }
  setTimeout(() => put(button, "Copy link"), 2000);
}
