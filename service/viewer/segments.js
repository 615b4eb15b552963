/** A few ways to show the same: buttons side by side, one of them pressed. */

import { change } from "./address.js";
import { h, put } from "./dom.js";

/**
 * @param {string} label of the group.
 * @param {string} key of the address.
 * @param {Array<[string, string]>} options [value, text]; the first is what holds by itself.
 * @returns {{element: HTMLElement, show: (value: string|undefined) => void}}
 */
export function segments(label, key, options) {
  const element = h("div", { class: "segments", role: "group", "aria-label": label });
  const [[first]] = options;
  const buttons = options.map(([value, text]) =>
    h(
      "button",
      { type: "button", onclick: () => change({ [key]: value === first ? null : value }) },
      text,
    ),
  );
  put(element, buttons);
  return {
    element,
    show(value) {
      options.forEach(([own], at) =>
        buttons[at].setAttribute("aria-pressed", String(own === (value ?? first))),
      );
    },
  };
}
