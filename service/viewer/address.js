/**
 * The address holds the whole state of the app, in the query: a link reproduces the view.
 *
 * It is one page at `/`, so that it also works behind a proxy that puts a prefix before the path.
 */

/** Tells how the circuits are read; these keys are kept from page to page. */
const READING = ["criterion", "ablation", "split", "keep"];

/** Keys come in this order, then the others by name, so that equal states have equal addresses. */
const ORDER = ["page", "layer", "unit", "channel", "image", ...READING];

/**
 * The state of the app: texts by key, as the query of the address has them.
 *
 * @typedef {Record<string, string>} State
 */

const listeners = new Set();
let current = parse(location.search);

/** Gives the state as it is now. @returns {State} */
export const state = () => current;

/** Calls `listener(state, {moved})` after each change; `moved`: by back, forward or a link. */
export function onAddress(listener) {
  listeners.add(listener);
}

/**
 * Reads a query.
 *
 * @param {string} search
 * @returns {State}
 */
export function parse(search) {
  return Object.fromEntries(new URLSearchParams(search));
}

/**
 * Writes a state as a query. Empty and absent values are left out.
 *
 * @param {Record<string, string|number|null|undefined>} wanted
 */
export function format(wanted) {
  const rank = (key) => (ORDER.includes(key) ? ORDER.indexOf(key) : ORDER.length);
  const keys = Object.keys(wanted)
    .filter((key) => wanted[key] !== null && wanted[key] !== undefined && wanted[key] !== "")
    .sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
  const text = keys.map((key) => `${key}=${escape(String(wanted[key]))}`).join("&");
  return text ? `?${text}` : "?";
}

/** Escapes as encodeURIComponent does, but commas, colons and slashes stay readable. */
function escape(text) {
  return encodeURIComponent(text).replace(/%2C/g, ",").replace(/%3A/g, ":").replace(/%2F/g, "/");
}

/** Makes the link to a page; how circuits are read goes along, the rest of the state does not. */
export function to(page, wanted = {}) {
  const kept = Object.fromEntries(READING.map((key) => [key, current[key]]));
  return format({ ...kept, page: page === "atlas" ? null : page, ...wanted });
}

/** Makes the link to the same page with some changes. */
export const changed = (changes) => format({ ...current, ...changes });

/** The key that was changed last, by itself and by steps; null after any other change. */
let stepping = null;

/**
 * Changes some of the state, here.
 *
 * @param {object} changes null removes a key.
 * @param {{replace?: boolean}} how `replace`: no new entry in the history, as while dragging.
 */
export function change(changes, { replace = false } = {}) {
  visit(changed(changes), { replace, moved: false });
}

/**
 * Changes one key, here. All changes of it in a row are one entry of the history, so that Back goes
 * to what was there before them, however many presses of a slider they took.
 *
 * @param {string} key
 * @param {string|null} value null removes it.
 */
export function step(key, value) {
  const replace = stepping === key;
  change({ [key]: value }, { replace });
  stepping = key;
}

/** Goes to a link of this app. */
export function visit(query, { replace = false, moved = true } = {}) {
  if (query === format(current)) return;
  if (moved) history.replaceState({ ...history.state, scroll: scrollY }, "");
  history[replace ? "replaceState" : "pushState"]({ scroll: 0 }, "", query);
  set(query, { moved, scroll: moved ? 0 : null });
}

function set(query, how) {
  stepping = null;
  current = parse(query);
  for (const listener of listeners) listener(current, how);
}

/** Starts to follow clicks on links, and back and forward. */
export function follow() {
  history.scrollRestoration = "manual";
  addEventListener("popstate", (event) => {
    set(location.search, { moved: true, scroll: event.state?.scroll ?? 0, popped: true });
  });
  addEventListener("click", (event) => {
    const link = event.target instanceof Element && event.target.closest("a[href^='?']");
    const plain = !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
    if (!link || !plain || event.button !== 0 || event.defaultPrevented) return;
    if (link.hasAttribute("download") || link.hasAttribute("target")) return;
    event.preventDefault();
    visit(format(parse(link.getAttribute("href"))));
  });
}
