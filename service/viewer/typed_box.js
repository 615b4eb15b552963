/** Boxes to type in whose text is part of the address of a layer's page. */

import { change, state } from "./address.js";
import { h } from "./dom.js";

const WAIT_MS = 250;

/**
 * A box whose text stands in the address under a key, soon after it is typed. What is typed in one
 * go is one entry of the history.
 *
 * `show(now)` takes over what the address says, where that is not from here, and tells whether it
 * did: what is being typed is never lost to something else that changes.
 */
export function typedBox(layer, key, props) {
  let told = "";
  let timer = 0;
  let typing = false;
  const tell = () => {
    clearTimeout(timer);
    const text = input.value.trim();
    const here = state().page === "layer" && state().layer === layer;
    if (!here || text === told || input.validity.badInput) return;
    told = text;
    const replace = typing;
    typing = true;
    change({ [key]: text || null, from: null }, { replace });
  };
  const input = h("input", {
    ...props,
    autocomplete: "off",
    oninput: () => {
      clearTimeout(timer);
      timer = setTimeout(tell, WAIT_MS);
    },
    onchange: tell,
    onblur: () => {
      typing = false;
    },
  });
  return {
    key,
    input,
    show(now) {
      const said = now[key] ?? "";
      if (said === told) return false;
      clearTimeout(timer);
      typing = false;
      told = said;
      input.value = said;
      return true;
    },
  };
}
