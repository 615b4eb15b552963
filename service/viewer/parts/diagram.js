/** The panel that holds a circuit's diagram, with the diagram's own state in the address. */

/**
 * @import { AtlasFacts } from "openapi"
 * @import { Query } from "../api.js"
 */

import { change, state, to } from "../address.js";
import { get, imageUrl, url } from "../api.js";
import { fresh, h } from "../dom.js";
import { whole } from "../figures.js";
import { loaded } from "../loaded.js";
import { panel } from "../panel.js";

/** How many kernels are drawn at most: what is asked for where nothing is said, and others. */
const EDGES = 200;
const MOST = [50, EDGES, 500, 2000, 20000];

/** The schema that says how the network is wired. */
const NETWORK_SINCE = 2;

/** What the keys of a diagram's state begin with in the address. */
const PREFIX = "d.";

/** Gives the state of a diagram, as diagram/state.js describes it, of that of the page. */
const within = (now) =>
  Object.fromEntries(
    Object.entries(now)
      .filter(([key]) => key.startsWith(PREFIX))
      .map(([key, value]) => [key.slice(PREFIX.length), value]),
  );

/** Loads what draws a diagram, a third of all code, where one is shown. */
const drawing = () => loaded(import("../diagram/diagram.js"), "what draws a diagram");

/**
 * @param {object} of
 * @param {AtlasFacts} of.atlas
 * @param {string} of.title
 * @param {(now) => unknown} of.key what decides which circuit it is.
 * @param {(now) => Promise<{path: readonly string[], query: Query}>} of.locate where its drawing is
 *   answered: as data; with .svg and .png behind the last part as figures.
 * @param {string|Node} [of.note]
 * @param {string} [of.width] as of a panel.
 * @param {(name: string|null) => void} [of.onHover] the pointer came to a node or kernel, or left it.
 */
export function diagramPanel({ atlas, title, key, locate, note, width, onHover }) {
  const host = h("div", { class: "diagram-host" });
  let diagram = null;
  let drawn = null;

  /** Puts what the reader did in the diagram into the address, without a step of the history. */
  const onState = (wanted) => {
    if (!host.isConnected) return;
    const gone = Object.keys(within(state())).map((name) => [PREFIX + name, null]);
    const kept = Object.entries(wanted).map(([name, value]) => [PREFIX + name, String(value)]);
    change(Object.fromEntries([...gone, ...kept]), { replace: true });
  };
  const draw = (data, now) => {
    if (data === drawn) return;
    drawn = data;
    diagram?.destroy();
    diagram = new data.Diagram(host, data.document, {
      state: within(now),
      onState,
      onHover,
      imageUrl: (image) => imageUrl(image),
      sheetUrl: (shows) => url([...data.asked.path, "nodes"], { ...data.query, shows }),
      featureUrl: ({ convolution, channel, layer, unit, feature }) =>
        url(
          convolution
            ? ["channels", convolution, String(channel), "features", feature]
            : ["layers", layer, "units", unit, "features", feature],
        ),
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
      const query = { ...asked.query, edges: now.edges };
      const [document, { Diagram }] = await Promise.all([get(asked.path, query), drawing()]);
      return { asked, query, document, Diagram };
    },
    empty: (data) =>
      data
        ? null
        : "This atlas was built by an older `circuit-atlas` and does not say how its network is wired: build it again into another store.",
    draw: () => host,
    // It reads colours and measures of the page, so it has to stand there.
    after: draw,
    files: ({ asked, query }) => {
      const last = asked.path.length - 1;
      return [
        ...["svg", "png"].map((form) => ({
          label: form.toUpperCase(),
          detail: "as it is seen here",
          href: url(asked.path.with(last, `${asked.path[last]}.${form}`), { ...query, ...diagram?.look }),
        })),
        { label: "JSON", detail: "what is drawn", href: url(asked.path, query) },
      ];
    },
  });
  return {
    element: made.element,
    /** Marks a node or kernel by name, because it is pointed at in another drawing; null: none. */
    mark: (name) => diagram?.mark(name),
    update(now) {
      const edges = now.edges ?? String(EDGES);
      if (![...most.options].some(({ value }) => value === edges)) {
        most.append(h("option", { value: edges }, edges));
      }
      most.value = edges;
      if (diagram) {
        const wanted = within(now);
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
