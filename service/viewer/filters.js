/** Chooses which units of a layer are shown, and in which order: by state, and by any column. */

import { change } from "./address.js";
import { fresh, h, put } from "./dom.js";
import { menu } from "./menu.js";
import { typedBox } from "./typed_box.js";

const STATES = [
  ["", "any state"],
  ["done", "done"],
  ["dead", "dead"],
  ["failed", "failed"],
  ["planned", "not computed yet"],
];
/** Names the filter by number or name, which has a box that is always there. */
const NAME = "has.name";
const isFilter = (key) => /^(min|max|has)\./.test(key);

/** Gives the part of the state that filters, as the server takes it. */
export const filterQuery = (now) => ({
  state: now.state,
  ...Object.fromEntries(Object.entries(now).filter(([key]) => isFilter(key))),
});

/**
 * Makes the bar of a layer's page; `columns(list)` tells it what there is to sort and filter by.
 */
export function filterBar(layer) {
  let known = [];
  let state = {};
  const added = new Map();
  const id = fresh("filter");
  const name = typedBox(layer, NAME, {
    type: "search",
    id: `${id}-name`,
    size: 14,
    placeholder: "number or name",
  });
  const states = select(`${id}-state`, STATES, (value) =>
    change({ state: value || null, from: null }),
  );
  const sort = select(`${id}-sort`, [["unit", "Unit"]], (value) =>
    change({ sort: value === "unit" ? null : value, from: null }),
  );
  // As wide before the columns are known as after: what follows stays where it is.
  sort.classList.add("columns");
  const order = h("button", {
    class: "button",
    type: "button",
    onclick: () => change({ order: state.order === "desc" ? null : "desc", from: null }),
  });
  const more = h("div", { class: "more" });
  const add = menu(
    "Add a filter",
    () =>
      known
        .filter((column) => column.type !== "state" && column.name !== "name")
        .map((column) =>
          h(
            "li",
            null,
            h(
              "button",
              { type: "button", title: column.sentence, onclick: () => filterBy(column.name, column.type) },
              column.title,
            ),
          ),
        ),
    { name: "Add a filter by a column" },
  );
  const clear = h(
    "button",
    {
      class: "button plain",
      type: "button",
      onclick: () => {
        [...added.keys()].forEach(drop);
        name.input.focus();
        change(cleared(state));
      },
    },
    "Clear",
  );
  const element = h(
    "section",
    { class: "filters", "aria-label": "Sort and filter units" },
    field(name.input, "Unit"),
    field(states, "State"),
    h("div", { class: "field" }, h("label", { for: sort.id }, "Sort by"), sort, order),
    more,
    h("div", { class: "field" }, add),
    clear,
  );

  /** Shows the boxes of a filter, where they are not there yet, and goes to the first. */
  function filterBy(column, type) {
    if (!added.has(column)) putUp(column, type);
    added.get(column).boxes[0].input.focus();
    clear.hidden = false;
  }

  function putUp(column, type) {
    const made = filter(layer, column, titleOf(column), type, () => {
      const next = made.element.nextElementSibling ?? made.element.previousElementSibling ?? add;
      next.querySelector("button").focus();
      drop(column);
      change(Object.fromEntries([...made.boxes.map(({ key }) => key), "from"].map((key) => [key, null])));
      clear.hidden = !filters(state);
    });
    added.set(column, made);
    more.append(made.element);
  }

  function drop(column) {
    added.get(column).element.remove();
    added.delete(column);
  }

  /** Gives what heads a column; its name until the server has told. */
  const titleOf = (column) => known.find((one) => one.name === column)?.title ?? column;

  /** Tells whether anything is filtered, or about to be. */
  const filters = (now) => added.size > 0 || Object.keys(cleared(now)).length > 0;

  return {
    element,
    columns(list) {
      if (JSON.stringify(list) === JSON.stringify(known)) return;
      known = list;
      put(sort, inGroups(known));
      // Those of the address were put up before their titles were known.
      for (const [column, { call }] of added) call(titleOf(column));
      this.update(state);
    },
    update(now) {
      state = now;
      name.show(now);
      states.value = now.state ?? "";
      const by = now.sort ?? "unit";
      if (![...sort.options].some((o) => o.value === by)) sort.append(option(by, titleOf(by)));
      sort.value = by;
      const down = now.order === "desc";
      order.textContent = down ? "↓" : "↑";
      order.setAttribute("aria-label", down ? "Order: falling" : "Order: rising");
      for (const key of Object.keys(now).filter((one) => isFilter(one) && one !== NAME)) {
        const column = key.slice(4);
        if (!added.has(column)) putUp(column, key.startsWith("has.") ? "text" : "number");
      }
      for (const [column, { boxes }] of [...added]) {
        // One that the reader has emptied stays to be filled; one that the address gave up goes.
        const moved = boxes.map((one) => one.show(now)).includes(true);
        if (moved && !boxes.some(({ key }) => now[key])) drop(column);
      }
      clear.hidden = !filters(now);
    },
  };
}

function cleared(now) {
  const keys = Object.keys(now).filter((key) => isFilter(key) || key === "state");
  return Object.fromEntries([...keys, ...(keys.length ? ["from"] : [])].map((key) => [key, null]));
}

/** Makes a filter: what it is by, its boxes, and what takes it away. */
function filter(layer, column, title, type, away) {
  const sides =
    type === "text"
      ? [["has", "contains", { type: "search", size: 14 }]]
      : [
          ["min", "from", { type: "number", step: "any", size: 6 }],
          ["max", "to", { type: "number", step: "any", size: 6 }],
        ];
  const boxes = sides.map(([side, word, props]) =>
    typedBox(layer, `${side}.${column}`, { ...props, placeholder: word }),
  );
  const head = h("span");
  const remove = h("button", { class: "button plain", type: "button", onclick: away }, "×");
  const element = h(
    "div",
    { class: "field added", role: "group" },
    head,
    boxes.map(({ input }) => input),
    remove,
  );
  const call = (text) => {
    head.textContent = text;
    element.setAttribute("aria-label", `Filter by ${text}`);
    boxes.forEach(({ input }, at) => input.setAttribute("aria-label", `${text}: ${sides[at][1]}`));
    remove.setAttribute("aria-label", `Take away the filter by ${text}`);
  };
  call(title);
  return { element, boxes, call };
}

/**
 * What columns are about, in the order in which the list has them; what is left is of circuits.
 *
 * @type {Array<[string, RegExp|null]>}
 */
const SUBJECTS = [
  ["The unit", /^(unit|name|unit_label|state|error|reachable_kernels)$/],
  ["Its circuits", null],
  ["r by kept fraction", /^r\./],
  ["Its sub-features", /^(groups|silhouette|polysemanticity)$/],
  ["Its top image", /^(image|image_name|label|response|maximum|position_.|box_.*)$/],
];

/** Puts the options of columns under what they are about. */
function inGroups(columns) {
  const subject = ({ name }) => SUBJECTS.find(([, names]) => names?.test(name)) ?? SUBJECTS[1];
  return SUBJECTS.map((one) => {
    const own = columns.filter((column) => subject(column) === one);
    return own.length > 0 && h("optgroup", { label: one[0] }, own.map((c) => option(c.name, c.title)));
  });
}

const option = (name, title) => h("option", { value: name }, title);

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
