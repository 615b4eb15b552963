/** The panel that holds a circuit's diagram, with the diagram's own state in the address. */

import { change } from "../address.js";
import { get, url } from "../api.js";
import { h, put } from "../dom.js";
import { svgFile } from "../menu.js";
import { panel } from "../panel.js";
import { isDark, onTheme } from "../theme.js";

/** The diagram's part of the state. */
const within = (now, prefix) =>
  Object.fromEntries(
    Object.entries(now)
      .filter(([key]) => key.startsWith(prefix))
      .map(([key, value]) => [key.slice(prefix.length), value]),
  );

/**
 * @param {object} of
 * @param {string} of.title
 * @param {(now) => unknown} of.key what decides which circuit it is.
 * @param {(now) => Promise<{path: string[], query: object, svg?: string[]}>} of.locate where its
 *   drawing is answered.
 * @param {string|Node} [of.note]
 * @param {string} [of.place] as of a panel.
 * @param {string} [of.prefix] of its keys in the address.
 */
export function diagramPanel({ title, key, locate, note, place, prefix = "d." }) {
  const host = h("div", { class: "diagram-host" });
  let mounted = null;
  let asked = null;
  const draw = async (data, now) => {
    const { mount } = await import("../diagram.js");
    mounted?.destroy?.();
    put(host);
    mounted = mount(host, data, {
      state: within(now, prefix),
      theme: isDark() ? "dark" : "light",
      onState: (wanted) => {
        const old = Object.keys(within(now, prefix)).map((name) => [prefix + name, null]);
        const fresh = Object.entries(wanted).map(([name, value]) => [
          PREFIX + name,
          value === null || value === undefined || value === "" ? null : String(value),
        ]);
        change(Object.fromEntries([...old, ...fresh]), { replace: true });
      },
    });
  };
  onTheme(() => mounted?.setTheme?.(isDark() ? "dark" : "light"));
  const made = panel({
    title,
    note,
    place,
    kind: "diagram-panel",
    height: "32rem",
    key: (now) => [key(now), now.edges],
    load: async (now) => {
      asked = await locate(now);
      return get(asked.path, { ...asked.query, edges: now.edges });
    },
    draw: (data, now) => {
      draw(data, now);
      return host;
    },
    files: (_, now) => [
      { label: "JSON", detail: "what is drawn", href: url(asked.path, { ...asked.query, edges: now.edges, format: "json" }) },
      ...(asked.svg
        ? [{ label: "SVG", detail: "for papers", href: url(asked.svg, { ...asked.query, edges: now.edges }) }]
        : []),
      ...(host.querySelector("svg")
        ? [
            {
              label: "SVG",
              detail: "as it is shown",
              file: () =>
                mounted?.svg
                  ? { name: "circuit.svg", type: "image/svg+xml", text: mounted.svg() }
                  : svgFile(host.querySelector("svg"), "circuit.svg"),
            },
          ]
        : []),
    ],
  });
  return {
    element: made.element,
    update(now) {
      mounted?.setState?.(within(now, prefix));
      return made.update(now);
    },
  };
}
