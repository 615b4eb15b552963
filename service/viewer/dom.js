/**
 * Makes elements from calls: `h("p", {class: "note"}, "text")`. Text is always text, never markup.
 */

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Node|string|number|Array<any>|null|undefined|false} Child */

/**
 * Makes an HTML element.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>|null} [props] `class`, `dataset`, `style` (an object of CSS properties), `on*`
 *   listeners, and attributes; true gives an empty attribute, null and false none. `value`,
 *   `checked`, `indeterminate` and `selected` are set as properties.
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/**
 * Makes an SVG element.
 *
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>|null} [props] as of `h`.
 * @param {...Child} children
 * @returns {SVGElementTagNameMap[K]}
 */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

const PROPERTIES = new Set(["value", "checked", "indeterminate", "selected"]);

/**
 * @template {HTMLElement|SVGElement} E
 * @param {E} element
 * @param {Record<string, any>|null} props
 * @param {Child[]} children
 * @returns {E}
 */
function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "style") style(element, value);
    else if (PROPERTIES.has(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

/**
 * Sets CSS properties one by one: the page's policy allows no `style` attribute.
 *
 * @param {HTMLElement|SVGElement} element
 * @param {Record<string, string|number|null|undefined>} properties null and undefined take one away.
 */
export function style(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) element.style.removeProperty(name);
    else element.style.setProperty(name, String(value));
  }
}

function append(parent, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(parent, child);
    else if (child !== null && child !== undefined && child !== false) parent.append(child);
  }
}

/** Makes a sentence in which what stands in backticks is code. */
export const prose = (text) =>
  h(
    "span",
    null,
    String(text)
      .split("`")
      .map((part, at) => (at % 2 ? h("code", null, part) : part)),
  );

/**
 * Replaces what an element holds.
 *
 * @template {Element} E
 * @param {E} element
 * @param {...Child} children
 * @returns {E}
 */
export function put(element, ...children) {
  const holder = document.createDocumentFragment();
  append(holder, children);
  element.replaceChildren(holder);
  return element;
}

/** Makes an id that no other element of this page has. */
export function fresh(prefix) {
  counter += 1;
  return `${prefix}-${counter}`;
}
let counter = 0;

/** Calls `then(width)` with the element's width in whole pixels, at once and when it changes. */
export function onWidth(element, then) {
  let last = 0;
  const observer = new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (!element.isConnected) observer.disconnect();
    else if (width > 0 && width !== last) {
      last = width;
      then(width);
    }
  });
  observer.observe(element);
}

/** Calls `then` once, when the element comes near the window. */
export function whenNear(element, then) {
  const observer = new IntersectionObserver(
    (entries) => {
      if (entries.some((entry) => entry.isIntersecting)) {
        observer.disconnect();
        then();
      }
    },
    { rootMargin: "400px" },
  );
  observer.observe(element);
}
