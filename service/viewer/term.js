/** Words of the glossary in a sentence, each with a link to what it means. */

import { to } from "./address.js";
import { h } from "./dom.js";
import { WORDS } from "./glossary_words.js";

/** Finds the entry of an anchor such as `kept-fraction`: its word and meaning. */
export function entry(anchor) {
  const found = WORDS.find(([known]) => known === anchor);
  return found && { word: found[1], meaning: found[2] };
}

/**
 * Links a word to its entry in the glossary; pointed at, it says the meaning.
 *
 * @param {string} text as it stands in the sentence.
 * @param {string} anchor such as `kept-fraction`.
 */
export const term = (text, anchor) =>
  h(
    "a",
    { class: "term", href: to("glossary", { word: anchor }), title: entry(anchor).meaning.replaceAll("`", "") },
    text,
  );

/**
 * Makes a sentence in which what stands in brackets links to the glossary:
 * `explained("Of all [scoring images|scoring-images].")`; without an anchor, the text is it.
 *
 * @param {string} text
 */
export const explained = (text) =>
  h(
    "span",
    null,
    text.split(/[[\]]/).map((part, at) => {
      const [said, anchor] = part.split("|");
      return at % 2 ? term(said, anchor ?? said.toLowerCase().replaceAll(" ", "-")) : part;
    }),
  );
