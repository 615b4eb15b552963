/** Glossary: the words that these pages use. */

/** @import { State } from "../address.js" */

import { atlasCrumbs } from "../crumbs.js";
import { h, prose } from "../dom.js";
import { WORDS } from "../glossary_words.js";
import { heading } from "../heading.js";
import { useful } from "../live.js";

/** Makes the page. */
export async function glossaryPage() {
  const entries = new Map(
    WORDS.map(([anchor, word, meaning]) => [
      anchor,
      h("div", { class: "entry", tabindex: "-1" }, h("dt", null, word), h("dd", null, prose(meaning))),
    ]),
  );
  const element = h(
    "div",
    null,
    heading({ crumbs: atlasCrumbs(), title: "Glossary" }),
    h("dl", { class: "panel glossary" }, [...entries.values()]),
  );
  return {
    title: "Glossary",
    element,
    /** @param {State} now */
    update(now) {
      for (const [anchor, entry] of entries) entry.classList.toggle("meant", anchor === now.word);
      const meant = entries.get(now.word);
      // After the page has gone to its head.
      if (meant) {
        requestAnimationFrame(() => {
          meant.scrollIntoView({ block: "center" });
          meant.focus({ preventScroll: true });
        });
      }
      useful("glossary");
    },
  };
}
