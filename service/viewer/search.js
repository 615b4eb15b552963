/** The search box: layers, units, labels and images, found as one types. `/` goes to it. */

/** @import { Match } from "openapi" */

import { get, imageUrl } from "./api.js";
import { to, visit } from "./address.js";
import { h, prose, put } from "./dom.js";
import { count } from "./figures.js";
import { announce } from "./live.js";

const WAIT_MS = 120;
const LIMIT = 24;

/** Makes the input and its list. */
export function searchBox() {
  const list = h("div", { role: "listbox", id: "found", "aria-label": "Found", hidden: true });
  const input = h("input", {
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
    input.setAttribute("aria-expanded", String(wanted));
    if (!wanted) mark(-1);
  };
  const mark = (wanted) => {
    at = wanted;
    [...list.querySelectorAll("[role=option]")].forEach((option, index) => {
      option.setAttribute("aria-selected", String(index === at));
      if (index === at) option.scrollIntoView({ block: "nearest" });
    });
    if (at >= 0) input.setAttribute("aria-activedescendant", `found-${at}`);
    else input.removeAttribute("aria-activedescendant");
  };
  const choose = (row) => {
    open(false);
    input.value = "";
    answered = "";
    visit(link(row));
  };
  const ask = async () => {
    const q = input.value.trim();
    turn += 1;
    const mine = turn;
    if (!q) {
      open(false);
      return;
    }
    try {
      const found = await get(["search"], { q, limit: LIMIT });
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

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, WAIT_MS);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      open(false);
      input.value = "";
      input.blur();
    } else if (event.key === "Enter" && input.value.trim() !== answered) {
      // What is listed is of what was typed before: this is asked for, and its first one chosen.
      clearTimeout(timer);
      ask().then(() => input.value.trim() === answered && rows[0] && choose(rows[0]));
    } else if (list.hidden) return;
    else if (event.key === "ArrowDown") mark(Math.min(at + 1, rows.length - 1));
    else if (event.key === "ArrowUp") mark(Math.max(at - 1, 0));
    else if (event.key === "Enter" && rows[at]) choose(rows[at]);
    else return;
    event.preventDefault();
  });
  input.addEventListener("blur", () => open(false));
  list.addEventListener("pointerdown", (event) => event.preventDefault());
  addEventListener("keydown", (event) => {
    const typing =
      event.target instanceof Element &&
      event.target.closest("input, select, textarea, [contenteditable]");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    input.focus();
  });
  return [input, h("kbd", { "aria-hidden": "true" }, "/"), list];
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
    row.image !== null
      ? h("img", { src: imageUrl(row.image), alt: "" })
      : h("span"),
    h("span", { class: "detail" }, h("b", null, row.text)),
    h("small", null, row.kind === "label" ? count(row.count, "image") : row.kind),
  );
}

/** @param {Match} row */
function link(row) {
  if (row.kind === "layer") return to("layer", { layer: row.layer });
  if (row.kind === "unit" || row.kind === "direction") return to("unit", { layer: row.layer, unit: row.unit });
  if (row.kind === "label") return to("images", { label: row.text });
  return to("image", { image: row.image });
}
