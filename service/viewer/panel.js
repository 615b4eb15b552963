/** A part of a page with data of its own: how it loads, fails, is empty, or is not complete yet. */

/** @import { Child } from "./dom.js" */

import { downloads } from "./menu.js";
import { fresh, h, prose, put, style } from "./dom.js";
import { explained } from "./term.js";

/**
 * Makes a part of a page.
 *
 * @template {any} D
 * @param {object} part
 * @param {string} part.title its heading.
 * @param {(state) => unknown} part.key what its data depend on; it loads anew when this changes.
 * @param {(state) => unknown} [part.look] what else its drawing depends on.
 * @param {(state) => Promise<D>} part.load
 * @param {(data: D, state) => Child} part.draw
 * @param {(data: D, state) => void} [part.after] called once the drawing stands in the page.
 * @param {() => void} [part.failed] called once it says why it could not be loaded.
 * @param {(data: D, state) => string|Node|null} [part.empty] what to say where there is nothing.
 * @param {(data: D, state) => string|null} [part.partial] what to say where it is not all yet.
 * @param {(data: D, state) => Array} [part.files] what can be saved, see `downloads`.
 * @param {Node[]} [part.controls] stand beside the heading.
 * @param {string|Node} part.note what it shows, in a sentence under the heading, as of `explained`.
 * @param {string} [part.width] its width, as a class: half, third, two-thirds.
 * @param {string} [part.kind] a class that only this one has.
 * @param {string} [part.height] of the space that it takes while it loads.
 * @returns {{element: HTMLElement, update: (state) => Promise<void>}}
 */
export function panel(part) {
  const id = fresh("panel");
  const body = h("div", { class: "panel-body" });
  const tools = h("div", { class: "actions" }, part.controls ?? []);
  const element = h(
    "section",
    { class: `panel ${part.width ?? ""} ${part.kind ?? ""}`, "aria-labelledby": id },
    h(
      "div",
      { class: "panel-head" },
      h("h2", { id }, part.title),
      tools,
    ),
    h("p", { class: "note" }, typeof part.note === "string" ? explained(part.note) : part.note),
    body,
  );
  let loaded = { key: undefined, look: undefined, data: null };
  let asked = 0;

  const files = () => (part.files && loaded.data ? part.files(loaded.data, loaded.state) : []);
  const saved = part.files && downloads(part.title.toLowerCase(), files);
  if (saved) tools.append(saved);

  async function update(state) {
    const key = JSON.stringify(part.key?.(state) ?? null);
    const look = JSON.stringify(part.look?.(state) ?? null);
    if (key === loaded.key && (look === loaded.look || loaded.data !== null)) {
      settle();
      if (look === loaded.look) return;
      loaded = { ...loaded, look, state };
      show(state);
      return;
    }
    asked += 1;
    const mine = asked;
    if (loaded.data === null) put(body, skeleton(part.height));
    else body.firstElementChild?.classList.add("old");
    body.setAttribute("aria-busy", "true");
    try {
      const data = await part.load(state);
      if (mine !== asked) return;
      loaded = { key, look, data, state };
      show(state);
    } catch (error) {
      if (mine !== asked) return;
      loaded = { key, look, data: null, state };
      if (saved) saved.hidden = true;
      put(
        body,
        failure(error, () => {
          loaded.key = undefined;
          update(state);
        }),
      );
      part.failed?.();
    } finally {
      if (mine === asked) body.removeAttribute("aria-busy");
    }
  }

  /** Settles for what is loaded: an answer that is still on its way is wanted no longer. */
  function settle() {
    if (!body.hasAttribute("aria-busy")) return;
    asked += 1;
    body.removeAttribute("aria-busy");
    body.querySelector(".old")?.classList.remove("old");
  }

  function show(state) {
    const focused = document.activeElement;
    const held = body.contains(focused) ? focused.getAttribute("data-key") : null;
    const empty = part.empty?.(loaded.data, state);
    const partial = part.partial?.(loaded.data, state) ?? notes(loaded.data);
    put(
      body,
      partial && h("p", { class: "message partial" }, prose(partial)),
      empty
        ? h("p", { class: "message" }, typeof empty === "string" ? prose(empty) : empty)
        : h("div", { class: "drawn" }, part.draw(loaded.data, state)),
    );
    if (saved) saved.hidden = files().length === 0;
    if (!empty) part.after?.(loaded.data, state);
    if (held) {
      /** @type {HTMLElement|null} */
      const same = body.querySelector(`[data-key="${CSS.escape(held)}"]`);
      same?.focus();
    }
  }

  return { element, update };
}

/** Says why a list is not complete, in the server's words. */
const notes = (data) => (data?.complete === false ? (data.note ?? null) : null);

/** Holds the space of something that will stand there. */
export function skeleton(height = "9rem") {
  const element = h("div", { class: "skeleton" }, "Loading");
  style(element, { "--height": height });
  return element;
}

/** Says an error in one line, as the server or the command line does. */
export function failure(error, again) {
  return h(
    "div",
    { class: "message error", role: "alert" },
    prose(error.message ?? error),
    again && h("button", { class: "button", type: "button", onclick: again }, "Try again"),
  );
}
