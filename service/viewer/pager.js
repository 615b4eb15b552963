/** Goes from page to page of a long list. */

import { changed } from "./address.js";
import { h } from "./dom.js";
import { count, whole } from "./figures.js";

/** Tells where in a list the state begins: a whole number, 0 where it names none. */
export const start = (now) => (/^\d{1,9}$/.test(now.from ?? "") ? Number(now.from) : 0);

/** Says that the state begins behind the end of a list, or gives null. */
export const behind = ({ total, rows }, noun) =>
  total > 0 && rows.length === 0
    ? h(
        "span",
        null,
        `There are only ${count(total, noun)}: `,
        h("a", { href: changed({ from: null }) }, "go to the first"),
        ".",
      )
    : null;

/** Says what part of a list is shown: "1 to 60 of 130 units". */
export const span = ({ offset, rows, total }, noun) =>
  rows.length < total
    ? `${whole(offset + 1)} to ${whole(offset + rows.length)} of ${count(total, noun)}`
    : count(total, noun);

/** Links to the parts before and after; null where all is shown. */
export function pager({ total, offset, limit }, noun) {
  if (total <= limit) return null;
  const link = (from, text, rel) =>
    from < 0 || from >= total
      ? h("span", { class: "button", "aria-disabled": "true" }, text)
      : h("a", { class: "button", href: changed({ from: from || null }), rel, "data-key": rel }, text);
  return h(
    "nav",
    { class: "pager", "aria-label": `Pages of ${noun}s` },
    link(offset - limit, "Previous", "prev"),
    h("span", null, `Page ${Math.floor(offset / limit) + 1} of ${Math.ceil(total / limit)}`),
    link(offset + limit, "Next", "next"),
  );
}
