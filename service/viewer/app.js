/** Starts the app: the bar at the top, and the page that the address names. */

import { format, follow, onAddress, state, to } from "./address.js";
import { atlas, get, unitPath } from "./api.js";
import { atlasCrumbs, imagesCrumbs, layerCrumbs } from "./crumbs.js";
import { h, put } from "./dom.js";
import { heading } from "./heading.js";
import { loaded } from "./loaded.js";
import { failure, skeleton } from "./panel.js";
import { searchBox } from "./search.js";
import { themeButton } from "./theme.js";
import { isDemo, tour } from "./tour.js";

/**
 * Of each page: what loads the function that makes it, which is in a script of its own; what of the
 * address makes it another page, not another view; and the facts that it begins with, which are
 * asked for together with the atlas'.
 */
const PAGES = {
  atlas: { load: () => import("./pages/atlas.js").then((of) => of.atlasPage), of: [] },
  layer: {
    load: () => import("./pages/layer.js").then((of) => of.layerPage),
    of: ["layer"],
    facts: ({ layer }) => ["layers", layer],
  },
  criteria: {
    load: () => import("./pages/criteria.js").then((of) => of.criteriaPage),
    of: ["layer"],
  },
  unit: {
    load: () => import("./pages/unit.js").then((of) => of.unitPage),
    of: ["layer", "unit"],
    facts: unitFacts,
  },
  channel: {
    load: () => import("./pages/channel.js").then((of) => of.channelPage),
    of: ["layer", "channel"],
    facts: channelFacts,
  },
  images: { load: () => import("./pages/images.js").then((of) => of.imagesPage), of: [] },
  image: {
    load: () => import("./pages/image.js").then((of) => of.imagePage),
    of: ["image"],
    facts: ({ image }) => ["images", image],
  },
  compare: { load: () => import("./pages/compare.js").then((of) => of.comparePage), of: [] },
  glossary: { load: () => import("./pages/glossary.js").then((of) => of.glossaryPage), of: [] },
  map: {
    load: () => import("./pages/map.js").then((of) => of.mapPage),
    of: ["layer", "unit"],
    facts: unitFacts,
  },
};
const NAV = { atlas: "Atlas", images: "Images", compare: "Compare", glossary: "Glossary" };
const UNDER = { layer: "atlas", criteria: "atlas", unit: "atlas", map: "atlas", channel: "atlas", image: "images" };

function unitFacts({ layer, unit }) {
  return unitPath(layer, unit);
}

function channelFacts({ layer, channel }) {
  return ["channels", layer, channel];
}

const main = document.getElementById("main");
let shown = { identity: null, page: null };
let turn = 0;

function nav() {
  const page = state().page ?? "atlas";
  const at = UNDER[page] ?? page;
  put(
    document.getElementById("nav"),
    h(
      "ul",
      null,
      Object.entries(NAV).map(([name, text]) =>
        h("li", null, h("a", { href: to(name), "aria-current": name === at ? "page" : null }, text)),
      ),
    ),
  );
}

async function show(now, { moved = true, scroll = 0, first = false } = {}) {
  const name = now.page ?? "atlas";
  const page = Object.hasOwn(PAGES, name) ? PAGES[name] : undefined;
  const identity = JSON.stringify([name, ...(page?.of ?? []).map((key) => now[key] ?? "")]);
  nav();
  if (identity === shown.identity && shown.page) {
    shown.page.update(now);
    retitle();
    return;
  }
  turn += 1;
  const mine = turn;
  shown = { identity, page: null };
  delete document.documentElement.dataset.useful;
  if (first) put(main, skeleton("60vh"));
  try {
    if (!page) throw new Error(`there is no page ${name}: go to the atlas by the link at the top`);
    const unsaid = page.of.find((key) => !now[key]);
    if (unsaid) {
      throw new Error(`this address names no ${unsaid}: go to the atlas by the link at the top`);
    }
    if (page.facts) get(page.facts(now)).catch(() => {}); // The page meets the error itself.
    const [facts, make] = await Promise.all([atlas(), loaded(page.load(), "this page")]);
    const made = await make(now, facts);
    if (mine !== turn) return;
    put(main, made.element);
    shown = { identity, page: made };
    made.update(state());
    retitle();
    tours.offer(facts);
    again.hidden = !isDemo(facts);
    scrollTo({ top: scroll ?? 0, behavior: "instant" });
    // Who follows the tour by keys stays in it.
    const touring = host.contains(document.activeElement);
    if (moved && !first && !touring) main.querySelector("h1")?.focus({ preventScroll: true });
  } catch (error) {
    if (mine !== turn) return;
    document.title = "Circuit Atlas";
    const retry = () => {
      shown = { identity: null, page: null };
      show(state());
    };
    put(main, heading({ crumbs: above(now), title: "This cannot be shown" }), failure(error, retry));
    document.documentElement.dataset.useful = "error";
  }
}

/** Lists the pages above one that cannot be shown, so that it leads on. */
function above({ page, layer }) {
  if (page === "image") return imagesCrumbs();
  return layer && page !== "layer" && page !== "channel" ? layerCrumbs(layer) : atlasCrumbs();
}

/** Takes over the page's title, which may name what its state does. */
function retitle() {
  document.title = `${shown.page.title} · Circuit Atlas`;
}

const host = document.getElementById("tour");
const tours = tour(host);
const again = h(
  "button",
  { class: "button plain", type: "button", hidden: true, onclick: () => tours.begin() },
  "Tour",
);
document.getElementById("tools").append(again, themeButton());
document.getElementById("search").append(...searchBox());
follow();
onAddress(show);
if (format(state()) !== location.search && location.search) {
  history.replaceState(history.state, "", format(state()));
}
show(state(), { first: true });
