/** The head of a page: where it is, its name, its facts, and what can be done with it. */

import { h } from "./dom.js";

/**
 * Makes the head of a page.
 *
 * @param {object} of
 * @param {Array<[string, string]>} [of.crumbs] [text, link] of the pages above.
 * @param {string} of.title
 * @param {Array<Node|null>} [of.beside] badges beside the title.
 * @param {Array<[string, string|Node|null]>} [of.facts] [name, value]; null values are left out.
 * @param {Array<Node|null>} [of.actions]
 */
export function heading({ crumbs = [], title, beside = [], facts = [], actions = [] }) {
  const known = facts.filter(([, value]) => value !== null && value !== undefined);
  return h(
    "div",
    { class: "page-head" },
    h(
      "div",
      null,
      crumbs.length > 0 &&
        h(
          "nav",
          { class: "crumbs", "aria-label": "Where this is" },
          h("ol", null, crumbs.map(([text, link]) => h("li", null, h("a", { href: link }, text)))),
        ),
      h("div", { class: "page-title" }, h("h1", { tabindex: "-1" }, title), beside),
      known.length > 0 &&
        h(
          "dl",
          { class: "facts" },
          known.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))),
        ),
    ),
    actions.length > 0 && h("div", { class: "actions" }, actions),
  );
}

const STATES = {
  done: "done",
  dead: "dead",
  failed: "failed",
  planned: "not computed yet",
  "not built": "not in this atlas",
};

/** Says a unit's state in a word. */
export const badge = (state) =>
  h("span", { class: `badge ${state === "not built" ? "planned" : state}` }, STATES[state] ?? state);
