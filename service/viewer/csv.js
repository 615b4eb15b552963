/** Reads CSV as the server writes it: texts in quotes, numbers bare, and nothing for null. */

/** @param {string} text @returns {Array<object>} a row a line, by the names of the head. */
export function parseCsv(text) {
  const [names, ...lines] = lists(text);
  return lines.map((line) => Object.fromEntries(names.map((name, at) => [name, line[at]])));
}

const FIELD = /("(?:[^"]|"")*"|[^,\n]*)(,|\n|$)/y;

function lists(text) {
  const found = [];
  let line = [];
  FIELD.lastIndex = 0;
  while (FIELD.lastIndex < text.length) {
    const [, field, end] = FIELD.exec(text);
    line.push(value(field));
    if (end === ",") {
      // A comma at the very end is followed by one more field, which is empty.
      if (FIELD.lastIndex === text.length) line.push(null);
      else continue;
    }
    found.push(line);
    line = [];
  }
  return found;
}

function value(field) {
  if (field === "") return null;
  if (field.startsWith('"')) return field.slice(1, -1).replaceAll('""', '"');
  if (field === "true" || field === "false") return field === "true";
  return Number.isNaN(Number(field)) ? null : Number(field);
}
