/** A button with a list that drops down, and the menus of what can be downloaded. */

import { table, url } from "./api.js";
import { fresh, h, put } from "./dom.js";
import { announce } from "./live.js";

/**
 * Makes a button with a list under it.
 *
 * @param {string} label what the button says.
 * @param {() => Node[]} items list items, made anew each time it opens.
 * @param {{name?: string}} options `name`: the button's full name, where the label is short.
 */
export function menu(label, items, { name = label } = {}) {
  // It can have the focus, as Safari gives none to a link or button that is pressed: the focus would
  // leave the menu, and the menu close before the click is done.
  const list = h("ul", { id: fresh("menu"), hidden: true, tabindex: "-1" });
  const button = h(
    "button",
    {
      class: "button",
      type: "button",
      "aria-expanded": "false",
      "aria-controls": list.id,
      "aria-label": name === label ? null : name,
    },
    label,
    h("span", { "aria-hidden": "true" }, "▾"),
  );
  const element = h("div", { class: "menu" }, button, list);
  const open = (wanted) => {
    if (wanted) put(list, items());
    list.hidden = !wanted;
    // It ends where its button does, unless it would begin beside the window.
    list.classList.remove("rightward");
    list.classList.toggle("rightward", list.getBoundingClientRect().left < 0);
    button.setAttribute("aria-expanded", String(wanted));
  };
  button.addEventListener("click", () => {
    open(list.hidden);
    if (!list.hidden) focusable(list)[0]?.focus();
  });
  element.addEventListener("keydown", (event) => {
    if (list.hidden) return;
    const entries = focusable(list);
    const at = entries.findIndex((entry) => entry === document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") {
      open(false);
      button.focus();
    } else if (step && entries.length) {
      entries[(at + step + entries.length) % entries.length].focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  element.addEventListener("focusout", (event) => {
    if (!element.contains(/** @type {Node|null} */ (event.relatedTarget))) open(false);
  });
  list.addEventListener("click", () => open(false));
  return element;
}

/** @returns {HTMLElement[]} */
const focusable = (list) => [...list.querySelectorAll("a, button")];

/**
 * Makes a menu of files.
 *
 * @param {string} of what they hold, in words.
 * @param {() => Array<{label, detail?, href?, file?: () => {name, type, text} | Promise}>} files
 */
export function downloads(of, files) {
  return menu(
    "Save",
    () =>
      files().map(({ label, detail, href, file }) =>
        h(
          "li",
          null,
          href
            ? h("a", { href, download: true }, label, h("small", null, detail ?? ""))
            : h(
                "button",
                { type: "button", onclick: () => given(file) },
                label,
                h("small", null, detail ?? ""),
              ),
        ),
      ),
    { name: `Save ${of}` },
  );
}

/**
 * The files of a table that the server writes. In pages of JSON it has a bounded number of rows, so
 * that file is made here.
 */
export const tableFiles = (path, query = {}, detail = "") => [
  { label: "CSV", detail, href: url(path, { ...query, format: "csv" }) },
  { label: "Parquet", detail, href: url(path, { ...query, format: "parquet" }) },
  {
    label: "JSON",
    detail,
    file: async () => ({
      name: `${path.slice(-3).join("-")}.json`,
      type: "application/json",
      text: JSON.stringify({ address: url(path, query), rows: await table(path, query) }, null, 1),
    }),
  },
];

async function given(file) {
  try {
    save(await file());
  } catch (error) {
    announce(error.message);
  }
}

/** Hands a text to the reader as a file. */
export function save({ name, type, text }) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
