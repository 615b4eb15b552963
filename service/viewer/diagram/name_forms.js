/**
 * Makes shorter forms of a band's name. Figures have the same rule, in diagram/name_forms.py; both
 * are held against one table of cases.
 */

const MOST_LINES = 5;
// Up to a dot; numbers that follow each other stay together.
const PIECE = /(?:\d+\.)+(?:\d+$)?|[^.]*\.|[^.]+$/g;

/**
 * Breaks a path after dots into as few lines as fit a width, or leaves it whole where those would be
 * more than five.
 *
 * @param {string} label
 * @param {number} room
 * @param {(text: string) => number} width
 * @returns {string[]}
 */
export function broken(label, room, width) {
  const lines = [""];
  for (const piece of label.match(PIECE) ?? []) {
    if (lines.at(-1) && width(lines.at(-1) + piece) > room) lines.push("");
    lines[lines.length - 1] += piece;
  }
  return lines.length <= MOST_LINES ? lines : [label];
}

/**
 * Lists the ends of a path that hold a letter, the longest first: "layer1.0.conv1" -> "…0.conv1",
 * "…conv1".
 *
 * @param {string} label
 * @returns {string[]}
 */
export function endings(label) {
  const parts = label.split(".");
  const ends = parts.slice(1).map((_, first) => parts.slice(first + 1).join("."));
  return ends.filter((end) => /[A-Za-z]/.test(end)).map((end) => `…${end}`);
}
