/** The panel that holds a circuit's diagram, with the diagram's own state in the address. */

/**
 * @import { AtlasFacts } from "openapi"
 * @import { Query } from "../api.js"
 */

import { change, state, to } from "../address.js";
import { get, imageUrl, url } from "../api.js";
import { Diagram } from "../diagram/diagram.js";
import { fresh, h } from "../dom.js";
import { whole } from "../figures.js";
import { panel } from "../panel.js";

/** How many kernels are drawn at most: what is asked for where nothing is said, and others. */
const EDGES = 2000;
const MOST = [200, EDGES, 5000, 20000];

/** The schema that says how the network is wired. */
const NETWORK_SINCE = 2;

/** Gives the keys of a state that start so, without their start. */
const within = (now, prefix) =>
  Object.fromEntries(
    Object.entries(now)
      .filter(([key]) => key.startsWith(prefix))
      .map(([key, value]) => [key.slice(prefix.length), value]),
  );

/**
 * @param {object} of
 * @param {AtlasFacts} of.atlas
 * @param {string} of.title
 * @param {(now) => unknown} of.key what decides which circuit it is.
 * @param {(now) => Promise<{path: readonly string[], query: Query, svg: readonly string[]}>} of.locate where its
 *   drawing is answered.
 * @param {string|Node} [of.note]
 * @param {string} [of.width] as of a panel.
 * @param {string} [of.prefix] of its keys in the address.
 */
export function diagramPanel({ atlas, title, key, locate, note, width, prefix = "d." }) {
  const host = h("div", { class: "diagram-host" });
  let diagram = null;
  let drawn = null;

  /** Puts what the reader did in the diagram into the address, without a step of the history. */
  const onState = (wanted) => {
    if (!host.isConnected) return;
    const gone = Object.keys(within(state(), prefix)).map((name) => [prefix + name, null]);
    const kept = Object.entries(wanted).map(([name, value]) => [prefix + name, String(value)]);
    change(Object.fromEntries([...gone, ...kept]), { replace: true });
  };
  const draw = (data, now) => {
    if (data === drawn) return;
    drawn = data;
    diagram?.destroy();
    diagram = new Diagram(host, data.document, {
      state: within(now, prefix),
      onState,
      imageUrl,
      featureUrl: ({ convolution, channel }) =>
        url(["channels", convolution, String(channel), "features", "positive"]),
      linkTo: pageOf,
      wheel: "focus",
    });
  };
  const id = fresh("edges");
  const most = h(
    "select",
    { id, onchange: () => change({ edges: Number(most.value) === EDGES ? null : most.value }) },
    MOST.map((edges) => h("option", { value: edges }, whole(edges))),
  );
  const made = panel({
    title,
    controls: [
      h("div", { class: "field" }, h("label", { for: id }, "Kernels drawn, at most"), most),
    ],
    note,
    width,
    kind: "diagram-panel",
    height: "32rem",
    key: (now) => [key(now), now.edges],
    load: async (now) => {
      if (atlas.schema < NETWORK_SINCE) return null;
      const asked = await locate(now);
      const document = await get(asked.path, { ...asked.query, edges: now.edges });
      return { asked, document };
    },
    empty: (data) =>
      data
        ? null
        : "This atlas was built by an older `circuit-atlas` and does not say how its network is wired: build it again into another store.",
    draw: () => host,
    // It reads colours and measures of the page, so it has to stand there.
    after: draw,
    files: ({ asked }, now) => [
      { label: "SVG", detail: "diagram", href: url(asked.svg, { ...asked.query, edges: now.edges }) },
      { label: "JSON", detail: "what is drawn", href: url(asked.path, { ...asked.query, edges: now.edges }) },
    ],
  });
  return {
    element: made.element,
    update(now) {
      const edges = now.edges ?? String(EDGES);
      if (![...most.options].some(({ value }) => value === edges)) {
        most.append(h("option", { value: edges }, edges));
      }
      most.value = edges;
      if (diagram) {
        const wanted = within(now, prefix);
        const gone = Object.keys(diagram.state).filter((name) => !(name in wanted));
        diagram.setState(
          { ...Object.fromEntries(gone.map((name) => [name, null])), ...wanted },
          { quiet: true },
        );
      }
      return made.update(now);
    },
  };
}

/**
 * Links to the page about a node: a unit that the drawing ends at, or a channel upstream.
 *
 * @param {Record<string, any>} node as a diagram describes it.
 */
function pageOf({ kind, convolution, channel, layer, unit }) {
  if (layer) return to("unit", { layer, unit });
  return kind === "channel" ? to("channel", { layer: convolution, channel }) : null;
}
