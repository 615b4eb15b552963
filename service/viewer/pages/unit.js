/** Unit: its top images, how faithful its circuits are, what they look like, and its sub-features. */

/**
 * @import { AtlasFacts, UnitAnswer } from "openapi"
 * @import { State } from "../address.js"
 */

import { to } from "../address.js";
import { get, unitPath } from "../api.js";
import { layerCrumbs } from "../crumbs.js";
import { h, prose } from "../dom.js";
import { measure, whole } from "../figures.js";
import { badge, heading } from "../heading.js";
import { useful } from "../live.js";
import { circuitCounts, circuitKey } from "../parts/circuit.js";
import { diagramPanel } from "../parts/diagram.js";
import { faithfulness } from "../parts/faithfulness.js";
import { features } from "../parts/features.js";
import { groups } from "../parts/groups.js";
import { responseDistribution } from "../parts/response_distribution.js";
import { similar } from "../parts/similar.js";
import { stability } from "../parts/stability.js";
import { subset } from "../parts/subset.js";
import { topImages } from "../parts/top_images.js";
import { reading, readingBar } from "../reading.js";

/**
 * Makes the page.
 *
 * @param {State} state
 * @param {AtlasFacts} atlas
 */
export async function unitPage(state, atlas) {
  const { layer, unit } = state;
  const facts = await get(unitPath(layer, unit));
  const of = { layer, unit };
  const done = facts.state === "done";
  const bar = readingBar(atlas, { kernels: facts.reachable_kernels });
  const top = topImages(atlas, facts, of);
  const rest = done
    ? [
        features(facts, of),
        responseDistribution(of),
        faithfulness(atlas, of),
        circuitCounts(atlas, of),
        diagramPanel({
          atlas,
          title: "Circuit diagram",
          note: "The [circuit] from the image at the left to the unit at the right: a column a convolution, a line a [kernel], orange where its [contribution] excites and blue where it inhibits.",
          key: (now) => circuitKey(now, atlas),
          locate: async (now) => {
            const { query } = await subset({ ...now, ...of }, reading(now, atlas));
            const { keep, ...others } = query;
            return {
              path: unitPath(layer, unit, "diagram"),
              query: { ...others, keep },
            };
          },
        }),
        stability(atlas, of),
        groups(atlas, facts, of),
        similar(atlas, of),
      ]
    : [];
  const stored = done || facts.state === "dead";
  const element = h(
    "div",
    null,
    heading({
      crumbs: layerCrumbs(layer),
      title: facts.direction ? `Direction ${facts.name ?? unit}` : `Unit ${facts.name ?? unit}`,
      beside: [facts.unit_label && h("span", { class: "dim" }, facts.unit_label), badge(facts.state)],
      facts: [
        ["Response", atlas.layers.find((one) => one.layer === layer)?.explained ?? null],
        ["Kernels that can reach it", facts.reachable_kernels ? whole(facts.reachable_kernels) : null],
        ["Largest response to a scoring image", facts.top?.length ? measure(facts.top[0].response) : null],
        ["Channels", facts.direction ? whole(facts.direction.filter(Boolean).length) : null],
        ["Bias", facts.bias ? measure(facts.bias) : null],
        ["Ends in", facts.activation === "relu" ? "ReLU" : null],
      ],
      actions: [
        done && h("a", { class: "button", href: to("map", of) }, "Map of its images"),
        done &&
          h(
            "a",
            { class: "button", href: to("compare", { "left.layer": layer, "left.unit": unit }) },
            "Compare",
          ),
        neighbour(layer, facts.previous, "Previous unit", "←"),
        neighbour(layer, facts.next, "Next unit", "→"),
      ],
    }),
    done && bar.element,
    !done && h("p", { class: `message ${facts.state === "failed" ? "error" : ""}` }, prose(absence(facts))),
    stored && h("div", { class: "panels" }, top.element, rest.map((part) => part.element)),
  );
  return {
    title: `${layer}/${facts.name ?? unit}`,
    element,
    update(now) {
      if (done) bar.update(now);
      const first = stored ? top.update(now) : Promise.resolve();
      first.then(() => useful("unit"));
      for (const part of rest) part.update(now);
    },
  };
}

function neighbour(layer, name, says, sign) {
    return name === null
    ? h("span", { class: "button", "aria-disabled": "true", "aria-label": `${says}: none` }, sign)
    : h(
        "a",
        {
          class: "button",
          href: to("unit", { layer, unit: name }),
          "aria-label": `${says}: ${name}`,
          title: `${says}: ${name}`,
        },
        sign,
      );
}

/**
 * Says why a unit has no circuits.
 *
 * @param {UnitAnswer} facts
 */
function absence(facts) {
  return (
    facts.error ??
    {
      dead: "This unit is dead: its response is the same on every image, so it has no circuit.",
      planned: "This unit is not computed yet: run the same build again to continue.",
      "not built":
        "This unit is not in this atlas: name it under `units` of its layer in the spec and run `circuit-atlas build` again.",
    }[facts.state] ??
    "This unit failed."
  );
}
