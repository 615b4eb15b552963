/** The search box: layers, units, labels and images, found as one types. `/` goes to it. */

/** @import { Match, Size } from "openapi" */

import { atlas, get, imageUrl } from "./api.js";
import { to, visit } from "./address.js";
import { h, prose, put } from "./dom.js";
import { count } from "./figures.js";
import { crop } from "./image_view.js";
import { announce } from "./live.js";

const WAIT_MS = 120;
const LIMIT = 24;
/** Points that a thumbnail is shown wide. */
const SHOWN = 40;

/** The network's input, once anything is found. @type {Size|null} */
let input = null;

/** Makes the input and its list. */
export function searchBox() {
  const list = h("div", { role: "listbox", id: "found", "aria-label": "Found", hidden: true });
  const box = h("input", {
    type: "search",
    role: "combobox",
    placeholder: "Layer, unit, label or image",
    autocomplete: "off",
    spellcheck: "false",
    "aria-label": "Search by layer, unit, label or image",
    "aria-controls": "found",
    "aria-expanded": "false",
    "aria-autocomplete": "list",
    "aria-keyshortcuts": "/",
  });
  let rows = [];
  let at = -1;
  let timer = 0;
  let turn = 0;
  let answered = "";

  const open = (wanted) => {
    list.hidden = !wanted;
    box.setAttribute("aria-expanded", String(wanted));
    if (!wanted) mark(-1);
  };
  const mark = (wanted) => {
    at = wanted;
    [...list.querySelectorAll("[role=option]")].forEach((option, index) => {
      option.setAttribute("aria-selected", String(index === at));
      if (index === at) option.scrollIntoView({ block: "nearest" });
    });
    if (at >= 0) box.setAttribute("aria-activedescendant", `found-${at}`);
    else box.removeAttribute("aria-activedescendant");
  };
  const choose = (row) => {
    open(false);
    box.value = "";
    answered = "";
    visit(link(row));
  };
  const ask = async () => {
    const q = box.value.trim();
    turn += 1;
    const mine = turn;
    if (!q) {
      open(false);
      return;
    }
    try {
      const found = await get(["search"], { q, limit: LIMIT });
      input = (await atlas()).input;
      if (mine !== turn) return;
      rows = found.rows;
      answered = q;
      put(
        list,
        rows.length
          ? rows.map((row, index) => option(row, index, choose))
          : h("div", { class: "hint" }, `Nothing is called “${q}”`),
      );
      announce(rows.length ? `${count(rows.length, "result")}` : `Nothing is called ${q}`);
    } catch (error) {
      if (mine !== turn) return;
      rows = [];
      put(list, h("div", { class: "hint" }, prose(error.message)));
      announce(error.message);
    }
    open(true);
    mark(rows.length ? 0 : -1);
  };

  box.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, WAIT_MS);
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      open(false);
      box.value = "";
      box.blur();
    } else if (event.key === "Enter" && box.value.trim() !== answered) {
      // What is listed is of what was typed before: this is asked for, and its first one chosen.
      clearTimeout(timer);
      ask().then(() => box.value.trim() === answered && rows[0] && choose(rows[0]));
    } else if (list.hidden) return;
    else if (event.key === "ArrowDown") mark(Math.min(at + 1, rows.length - 1));
    else if (event.key === "ArrowUp") mark(Math.max(at - 1, 0));
    else if (event.key === "Enter" && rows[at]) choose(rows[at]);
    else return;
    event.preventDefault();
  });
  box.addEventListener("blur", () => open(false));
  list.addEventListener("pointerdown", (event) => event.preventDefault());
  addEventListener("keydown", (event) => {
    const typing =
      event.target instanceof Element &&
      event.target.closest("input, select, textarea, [contenteditable]");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    box.focus();
  });
  return [box, h("kbd", { "aria-hidden": "true" }, "/"), list];
}

/**
 * @param {Match} row
 * @param {number} index
 * @param {(row: Match) => void} choose
 */
function option(row, index, choose) {
  return h(
    "div",
    {
      role: "option",
      id: `found-${index}`,
      "aria-selected": "false",
      onclick: () => choose(row),
    },
    h("span", { class: "mini" }, row.image !== null && thumbnail(row)),
    h("span", { class: "detail" }, h("b", null, row.text)),
    h("small", null, row.kind === "label" ? count(row.count, "image") : row.kind),
  );
}

/**
 * Shows a unit by what it sees of its top image, an image as it is.
 *
 * @param {Match} row
 */
const thumbnail = (row) =>
  row.box && input
    ? crop({ image: row.image, box: row.box }, { input, alt: "", eager: true })
    : h("img", { src: imageUrl(row.image, { shown: SHOWN }), alt: "" });

/** @param {Match} row */
function link(row) {
  if (row.kind === "layer") return to("layer", { layer: row.layer });
  if (row.kind === "unit" || row.kind === "direction") return to("unit", { layer: row.layer, unit: row.unit });
  if (row.kind === "label") return to("images", { label: row.text });
  return to("image", { image: row.image });
}
