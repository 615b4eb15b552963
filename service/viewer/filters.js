/** Which units of a layer are shown, and in which order: states, and bounds or words of any column. */

import { change } from "./address.js";
import { fresh, h, put } from "./dom.js";
import { columnTitle } from "./figures.js";

const STATES = [
  ["", "any state"],
  ["done", "done"],
  ["dead", "dead"],
  ["failed", "failed"],
  ["planned", "not computed yet"],
];
const WAIT_MS = 250;
/** The filter by number or name has its own box. */
const NAME = "has.name";
const isFilter = (key) => /^(min|max|has)\./.test(key);

/** The part of the state that filters, as the server takes it. */
export const filterQuery = (now) => ({
  state: now.state,
  ...Object.fromEntries(Object.entries(now).filter(([key]) => isFilter(key))),
});

/** The bar; `columns(list)` tells it what there is to sort and filter by. */
export function filterBar() {
  let known = [];
  let state = {};
  const id = fresh("filter");
  const text = h("input", {
    type: "search",
    id: `${id}-name`,
    size: 14,
    placeholder: "number or name",
    autocomplete: "off",
  });
  let timer = 0;
  text.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => change({ [NAME]: text.value.trim() || null, from: null }), WAIT_MS);
  });
  const states = select(`${id}-state`, STATES, (value) =>
    change({ state: value || null, from: null }),
  );
  const sort = select(`${id}-sort`, [["unit", "Unit"]], (value) =>
    change({ sort: value === "unit" ? null : value, from: null }),
  );
  const order = h("button", {
    class: "button",
    type: "button",
    onclick: () => change({ order: state.order === "desc" ? null : "desc", from: null }),
  });
  const add = select(`${id}-add`, [["", "Add a filter…"]], (value) => {
    if (!value) return;
    const texts = known.some((c) => c.name === value && c.type === "text");
    more.append(texts ? words(value, {}) : bound(value, {}));
    more.lastElementChild.querySelector("input").focus();
    add.value = "";
  });
  add.setAttribute("aria-label", "Add a filter by a column");
  // As wide before the columns are known as after: what follows stays where it is.
  for (const list of [sort, add]) list.classList.add("columns");
  const more = h("div", { class: "more" });
  const clear = h(
    "button",
    { class: "button plain", type: "button", onclick: () => change(cleared(state)) },
    "Clear",
  );
  const element = h(
    "section",
    { class: "filters", "aria-label": "Sort and filter units" },
    field(text, "Unit"),
    field(states, "State"),
    h("div", { class: "field" }, h("label", { for: sort.id }, "Sort by"), sort, order),
    more,
    h("div", { class: "field" }, add),
    clear,
  );

  return {
    element,
    columns(list) {
      if (JSON.stringify(list) === JSON.stringify(known)) return;
      known = list;
      put(sort, known.map((c) => option(c.name)));
      const addable = known.filter((c) => c.type !== "state" && c.name !== "name");
      put(
        add,
        h("option", { value: "" }, "Add a filter…"),
        addable.map((c) => option(c.name)),
      );
      this.update(state);
    },
    update(now) {
      state = now;
      if (document.activeElement !== text) text.value = now[NAME] ?? "";
      states.value = now.state ?? "";
      const by = now.sort ?? "unit";
      if (![...sort.options].some((o) => o.value === by)) sort.append(option(by));
      sort.value = by;
      const down = now.order === "desc";
      order.textContent = down ? "↓" : "↑";
      order.setAttribute("aria-label", down ? "Order: falling" : "Order: rising");
      clear.hidden = Object.keys(cleared(now)).length === 0;
      if (more.contains(document.activeElement)) return;
      const given = Object.keys(now).filter((key) => isFilter(key) && key !== NAME);
      const bounded = new Set(given.filter((key) => !key.startsWith("has.")).map((key) => key.slice(4)));
      const searched = given.filter((key) => key.startsWith("has.")).map((key) => key.slice(4));
      put(more, [
        ...[...bounded].map((name) => bound(name, now)),
        ...searched.map((name) => words(name, now)),
      ]);
    },
  };
}

function cleared(now) {
  const keys = Object.keys(now).filter((key) => isFilter(key) || key === "state");
  return Object.fromEntries([...keys, ...(keys.length ? ["from"] : [])].map((key) => [key, null]));
}

function bound(name, now) {
  const title = columnTitle(name);
  const input = (side, word) =>
    h("input", {
      type: "number",
      step: "any",
      size: 6,
      value: now[`${side}.${name}`] ?? "",
      placeholder: word,
      "aria-label": `${title}: ${word}`,
      onchange: (event) => change({ [`${side}.${name}`]: event.target.value || null, from: null }),
    });
  return filter(title, [`min.${name}`, `max.${name}`], [input("min", "from"), input("max", "to")]);
}

function words(name, now) {
  const title = columnTitle(name);
  const key = `has.${name}`;
  return filter(title, [key], [
    h("input", {
      type: "search",
      size: 14,
      value: now[key] ?? "",
      placeholder: "has the words",
      autocomplete: "off",
      "aria-label": `${title}: has the words`,
      onchange: (event) => change({ [key]: event.target.value.trim() || null, from: null }),
    }),
  ]);
}

/** A filter that was added: what it is by, its inputs, and what takes it away. */
function filter(title, keys, inputs) {
  const element = h(
    "div",
    { class: "field added", role: "group", "aria-label": `Filter by ${title}` },
    h("span", null, title),
    inputs,
    h(
      "button",
      {
        class: "button plain",
        type: "button",
        "aria-label": `Take away the filter by ${title}`,
        onclick: () => {
          element.remove();
          change(Object.fromEntries([...keys, "from"].map((key) => [key, null])));
        },
      },
      "×",
    ),
  );
  return element;
}

const option = (name) => h("option", { value: name }, columnTitle(name));

function select(id, options, then) {
  const element = h(
    "select",
    { id, onchange: () => then(element.value) },
    options.map(([value, text]) => h("option", { value }, text)),
  );
  return element;
}

const field = (control, label) =>
  h("div", { class: "field" }, h("label", { for: control.id }, label), control);
