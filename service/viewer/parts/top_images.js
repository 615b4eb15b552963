/** The images that a unit responds to most: where it looked, and what its whole output was. */

/** @import { AtlasFacts, UnitAnswer } from "openapi" */

import { change, to } from "../address.js";
import { get, unitPath } from "../api.js";
import { h } from "../dom.js";
import { count, imageText, measure, responseText, whole } from "../figures.js";
import { tableFiles } from "../menu.js";
import { panel } from "../panel.js";
import { SHOT, wholeImage } from "../image_view.js";
import { term } from "../term.js";

/** How many are shown before one asks for more. */
const FIRST = 12;

/**
 * Makes the panel of top images.
 *
 * @param {AtlasFacts} atlas
 * @param {UnitAnswer} facts
 * @param {{layer: string, unit: string}} of
 */
export function topImages(atlas, facts, { layer, unit }) {
  const boxes = toggle("Receptive field", "boxes", { on: true });
  const maps = toggle("Response map", "maps", { on: false });
  const has = facts.has.response_maps;
  return panel({
    title: "Top images",
    width: "two-thirds",
    height: "20rem",
    note: `The [scoring images] that the unit responds to most; held-out images are not among them. Its [response]: ${responseText(atlas.response)}.`,
    controls: [boxes.element, has && maps.element],
    key: (now) => [has && now.maps === "1", now.top],
    look: (now) => [now.boxes],
    load: async (now) => {
      const top = (facts.top ?? []).slice(0, now.top === "all" ? undefined : FIRST);
      const wanted = has && now.maps === "1";
      const found = wanted
        ? await Promise.all(
            top.map((image) => get(unitPath(layer, unit, "response-map", String(image.image)))),
          )
        : [];
      return { top, maps: found.map((map) => map.values) };
    },
    empty: ({ top }) => (top.length ? null : "This unit has no top images."),
    draw: (found, now) => {
      boxes.show(now.boxes !== "0");
      maps.show(now.maps === "1");
      const scale = Math.max(...found.maps.flat(2).map(Math.abs), 0) || undefined;
      return [
        h(
          "ol",
          { class: "shots" },
          found.top.map((image, at) =>
            h(
              "li",
              null,
              h(
                "a",
                { class: "shot-link", href: to("image", { image: image.image, layer }) },
                wholeImage(image, {
                  input: atlas.input,
                  alt: imageText(image),
                  box: now.boxes !== "0",
                  map: found.maps[at] ?? null,
                  scale,
                  eager: true,
                  shown: SHOT,
                }),
              ),
              h(
                "p",
                { class: "under" },
                h("span", { class: "clip", title: imageText(image) }, image.label ?? image.name),
                h("span", { class: "dim number", title: "Response" }, measure(image.response)),
              ),
            ),
          ),
        ),
        (facts.top?.length ?? 0) > FIRST &&
          h(
            "p",
            { class: "more-images" },
            h("span", { class: "dim" }, `${whole(found.top.length)} of ${count(facts.top.length, "top image")}`),
            h(
              "button",
              {
                class: "button",
                type: "button",
                "data-key": "top",
                onclick: () => change({ top: now.top === "all" ? null : "all" }),
              },
              now.top === "all" ? "Fewer" : "More",
            ),
          ),
        found.maps.length > 0 &&
          h(
            "p",
            { class: "legend" },
            h("span", null, term("Response map", "response-map"), ":"),
            h("span", null, h("i", { class: "swatch area warm" }), "output above zero"),
            h("span", null, h("i", { class: "swatch area cool" }), "below zero"),
            h("span", null, `full colour at ±${measure(scale)}`),
          ),
      ];
    },
    files: () => tableFiles(unitPath(layer, unit, "responses"), {}, "responses"),
  });
}

/** Makes a switch that is in the address where it is not as by default: "1" for on, "0" for off. */
function toggle(text, key, { on }) {
  const box = h("input", {
    type: "checkbox",
    onchange: () => change({ [key]: box.checked === on ? null : box.checked ? "1" : "0" }),
  });
  return {
    element: h("label", { class: "switch" }, box, text),
    show: (value) => {
      box.checked = value;
    },
  };
}
