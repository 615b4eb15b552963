/** Channel: an output channel of a convolution upstream, its kernels, and whose circuits use it. */

/**
 * @import { AtlasFacts, ChannelAnswer, FeatureRow } from "openapi"
 * @import { State } from "../address.js"
 */

import { to } from "../address.js";
import { get, url, widthOf } from "../api.js";
import { atlasCrumbs } from "../crumbs.js";
import { h } from "../dom.js";
import { imageText, measure, whole } from "../figures.js";
import { heading } from "../heading.js";
import { SHOT, wholeImage } from "../image_view.js";
import { useful } from "../live.js";
import { tableFiles } from "../menu.js";
import { panel } from "../panel.js";
import { channelKernels } from "../parts/channel_kernels.js";
import { channelUses } from "../parts/channel_uses.js";
import { FEATURE, signText } from "../parts/features.js";
import { readingBar } from "../reading.js";

/**
 * Makes the page.
 *
 * @param {State} state
 * @param {AtlasFacts} atlas
 */
export async function channelPage(state, atlas) {
  const { layer: convolution } = state;
  const facts = await get(["channels", convolution, state.channel]);
  const own = atlas.layers.some(({ layer }) => layer === convolution);
  const bar = readingBar(atlas, { parts: ["criterion", "keep"] });
  const parts = [
    crops(facts, atlas),
    visualizations(facts),
    channelKernels(facts, "in"),
    channelKernels(facts, "out"),
    ...facts.layers.map((layer) => channelUses(atlas, facts, layer)),
  ];
  const { channel } = facts;
  const element = h(
    "div",
    null,
    heading({
      crumbs: atlasCrumbs(),
      title: `Channel ${channel} of ${convolution}`,
      facts: [
        ["Channels of the convolution", whole(facts.channels)],
        ["Upstream of", facts.layers.join(", ")],
      ],
      actions: [
        own && h("a", { class: "button", href: to("unit", { layer: convolution, unit: channel }) }, "As a unit"),
        neighbour(facts, channel - 1, "Previous channel", "←"),
        neighbour(facts, channel + 1, "Next channel", "→"),
      ],
    }),
    bar.element,
    h("div", { class: "panels" }, parts.map((part) => part.element)),
  );
  return {
    title: `${convolution} channel ${channel}`,
    element,
    update(now) {
      bar.update(now);
      const [first, ...rest] = parts.map((part) => part.update(now));
      first.then(() => useful("channel"));
      return Promise.all(rest);
    },
  };
}

/**
 * @param {ChannelAnswer} facts
 * @param {number} channel
 * @param {string} says
 * @param {string} sign
 */
function neighbour({ convolution, channels }, channel, says, sign) {
  return channel >= 0 && channel < channels
    ? h(
        "a",
        {
          class: "button",
          href: to("channel", { layer: convolution, channel }),
          "aria-label": `${says}: ${channel}`,
          title: `${says}: ${channel}`,
        },
        sign,
      )
    : h("span", { class: "button", "aria-disabled": "true", "aria-label": `${says}: none` }, sign);
}

/**
 * @param {ChannelAnswer} facts
 * @param {AtlasFacts} atlas
 */
function crops(facts, atlas) {
  const { convolution, channel } = facts;
  return panel({
    title: "Where it is largest",
    width: "two-thirds",
    height: "14rem",
    note: "Of all [scoring images], those with the largest value of this [channel] before its activation, at most four; the frame is the [receptive field] of that value.",
    key: () => null,
    load: async () => facts.crops,
    empty: (found) => (found.length ? null : "No image drives this channel: it is the same on all."),
    draw: (found) =>
      h(
        "ol",
        { class: "shots" },
        found.map((crop) =>
          h(
            "li",
            null,
            h(
              "a",
              { class: "shot-link", href: to("image", { image: crop.image }) },
              wholeImage(crop, { input: atlas.input, alt: imageText(crop), box: true, eager: true, shown: SHOT }),
            ),
            h(
              "p",
              { class: "under" },
              h("span", { class: "clip", title: imageText(crop) }, crop.label ?? crop.name),
              h("span", { class: "dim number", title: "Largest value" }, measure(crop.maximum)),
            ),
          ),
        ),
      ),
    files: () =>
      facts.crops.length
        ? tableFiles(["layers", facts.layers[0], "channels", convolution, String(channel)])
        : [],
  });
}

/** @param {ChannelAnswer} facts */
function visualizations({ convolution, channel, features }) {
  /** @type {readonly ["channels", string, string, "features"]} */
  const path = ["channels", convolution, String(channel), "features"];
  /** @param {FeatureRow} row */
  const address = (row, shown = null) =>
    url([...path, row.variant], { v: row.version, width: widthOf(shown) });
  return panel({
    title: "Feature visualizations",
    width: "third",
    height: "14rem",
    note: "Images made to drive the channel up, or down: its [feature visualizations|feature-visualization].",
    key: () => null,
    load: async () => (features.length ? (await get(path)).rows : []),
    empty: (found) =>
      found.length ? null : "None are stored of this channel: `circuit-atlas features` makes them.",
    draw: (found) =>
      h(
        "ul",
        { class: "shots" },
        found.map((row) =>
          h(
            "li",
            null,
            h(
              "div",
              { class: "image-box" },
              h("img", { src: address(row, FEATURE), alt: `Feature visualization: ${signText(row)}`, decoding: "async" }),
            ),
            h("p", { class: "caption" }, signText(row)),
          ),
        ),
      ),
    files: (found) =>
      found.map((row) => ({ label: "PNG", detail: signText(row), href: address(row) })),
  });
}
