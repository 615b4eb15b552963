/**
 * A tour of the demo in five steps: on a first visit, and when it is asked for. It stands beside the
 * page and can be left at any step, by its button or by Escape; this browser remembers where it is.
 */

/** @import { AtlasFacts } from "openapi" */

import { onAddress, state, to, visit } from "./address.js";
import { get } from "./api.js";
import { fresh, h, put } from "./dom.js";
import { explained } from "./term.js";

const KEY = "circuit-atlas-tour";
const LEFT = "left";
/** How long a step waits for what it points at. */
const PATIENCE_MS = 20_000;

/**
 * The steps: the page, what of it is pointed at, and what is said.
 *
 * @type {Array<{page: string, at: string, title: string, text: string}>}
 */
const STEPS = [
  {
    page: "atlas",
    at: ".layer-row",
    title: "An atlas",
    text: "Each row is a layer of the network: how many of its [units|unit] are computed, how small their [circuits|circuit] can be, and how much of the response they keep. Words with dots under them lead to the glossary.",
  },
  {
    page: "layer",
    at: ".cards .card",
    title: "Its units",
    text: "A card is a [unit]: what it sees of the image that it responds to most, its smallest circuit with [r] ≥ 0.9, and r against the [kept fraction]. Sort by anything that was measured.",
  },
  {
    page: "unit",
    at: ".panels > .panel",
    title: "What a unit responds to",
    text: "Its [top images], each with the [receptive field] of its largest response. “Response map” shows where else it responds.",
  },
  {
    page: "unit",
    at: ".read-chart",
    title: "How small a circuit can be",
    text: "How much of the response a circuit keeps, by the share of [kernels|kernel] that it keeps. Compare it with the [random floor]. The slider at the top chooses the kept fraction for the whole page.",
  },
  {
    page: "unit",
    at: ".diagram-panel",
    title: "The circuit itself",
    text: "Columns are convolutions, lines are kernels. Point at a channel to follow its lines, and choose it to see its page. Further down: the unit's [sub-features|sub-feature], and units like it.",
  },
];

function stored() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return LEFT; // A browser that keeps nothing would begin it anew with every page.
  }
}

function store(value) {
  try {
    localStorage.setItem(KEY, value);
  } catch {
    // Not remembered, but shown.
  }
}

/**
 * Makes the tour; `offer(atlas)` begins it where it is the demo and was not seen yet, or goes on.
 *
 * @param {HTMLElement} host where its card stands.
 */
export function tour(host) {
  let step = -1;
  /** @type {AtlasFacts|null} */
  let atlas = null;
  let pointed = null;
  let turn = 0;

  const leave = () => {
    step = -1;
    store(LEFT);
    point(null);
    put(host);
  };

  /** Goes to a step, and to its page. */
  const go = async (wanted) => {
    step = wanted;
    store(String(step));
    draw();
    const link = await linkTo(STEPS[step].page, atlas);
    if (link && (state().page ?? "atlas") !== STEPS[step].page) visit(link);
    find();
  };

  const find = () => {
    turn += 1;
    const mine = turn;
    point(null);
    const until = performance.now() + PATIENCE_MS;
    const look = () => {
      if (mine !== turn || step < 0) return;
      const here = document.documentElement.dataset.useful === STEPS[step].page;
      const found = here && document.querySelector(`main ${STEPS[step].at}`);
      if (found) point(found.closest(".panel") ?? found);
      else if (performance.now() < until) setTimeout(look, 100);
    };
    look();
  };

  const point = (element) => {
    pointed?.classList.remove("pointed");
    pointed = element;
    element?.classList.add("pointed");
    element?.scrollIntoView({ block: "start" });
  };

  const draw = () => {
    const id = fresh("tour");
    const { title, text } = STEPS[step];
    const last = step === STEPS.length - 1;
    const focused = host.contains(document.activeElement);
    const next = h(
      "button",
      { class: "button main", type: "button", onclick: () => (last ? leave() : go(step + 1)) },
      last ? "Done" : "Next",
    );
    put(
      host,
      h(
        "section",
        { class: "tour", role: "dialog", "aria-labelledby": id },
        h("h2", { id }, `${step + 1} of ${STEPS.length}: ${title}`),
        h("p", { "aria-live": "polite" }, explained(text)),
        h(
          "div",
          { class: "actions" },
          next,
          step > 0 &&
            h("button", { class: "button", type: "button", onclick: () => go(step - 1) }, "Back"),
          !last &&
            h("button", { class: "button plain", type: "button", onclick: leave }, "Leave the tour"),
        ),
      ),
    );
    if (focused) next.focus();
  };

  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && step >= 0 && !event.defaultPrevented) leave();
  });
  onAddress(() => step >= 0 && find());

  return {
    /** @param {AtlasFacts} facts */
    offer(facts) {
      atlas = facts;
      const at = stored();
      if (!isDemo(facts) || at === LEFT || step >= 0) return;
      if (at === null && (state().page ?? "atlas") !== "atlas") return;
      step = Math.min(Math.max(0, Number(at) || 0), STEPS.length - 1);
      draw();
      find();
    },
    begin: () => go(0),
  };
}

/** Tells whether an atlas is of the demo's network. @param {Pick<AtlasFacts, "model">} atlas */
export const isDemo = ({ model }) => model.startsWith("demo:");

/**
 * Links to the page of a step: of the first layer, and of its unit with most groups.
 *
 * @param {string} page
 * @param {AtlasFacts} atlas
 */
async function linkTo(page, atlas) {
  const layer = atlas.layers.find(({ done }) => done)?.layer;
  if (page === "atlas" || !layer) return to("atlas");
  if (page === "layer") return to("layer", { layer });
  const { rows } = await get(["layers", layer, "units"], { state: "done", sort: "groups", order: "desc", limit: 1 });
  return to("unit", { layer, unit: rows[0].name });
}
