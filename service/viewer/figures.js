/** Writes numbers and names, the same way everywhere. */

const WHOLE = new Intl.NumberFormat("en-GB");
const THREE = new Intl.NumberFormat("en-GB", { maximumSignificantDigits: 3 });

/** Writes a whole number: 12345 -> "12,345"; null -> an en dash. */
export const whole = (value) => (value === null || value === undefined ? "–" : WHOLE.format(value));

/** Writes Pearson r and the like: two decimals with a true minus; an en dash where undefined. */
export function ratio(value, digits = 2) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
}

/** Writes a kept fraction as a percentage without needless zeros: 0.002 -> "0.2 %". */
export function percent(fraction) {
  if (fraction === null || fraction === undefined) return "–";
  return `${Number((fraction * 100).toPrecision(3))} %`;
}

/**
 * Counts the kernels that a fraction keeps of those that can reach a unit; halves go to the even
 * number.
 */
export function kernelsKept(fraction, kernels) {
  const exact = fraction * kernels;
  const below = Math.floor(exact);
  return Math.max(1, exact - below === 0.5 ? below + (below % 2) : Math.round(exact));
}

/** Writes a measured number of unknown size with three significant digits. */
export function measure(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  const text =
    size !== 0 && (size >= 1e7 || size < 1e-3) ? size.toExponential(2) : THREE.format(size);
  return value < 0 && size > 0 ? `−${text}` : text;
}

/** What of the unit's output y is explained, in words: "sum_abs", "max", or "abs@row,column". */
export function responseText(response) {
  if (response === "sum_abs") return "|y| summed over all positions of its output";
  if (response === "max") return "the largest y of its output";
  const position = response.match(/^abs@(\d+),(\d+)$/);
  return position ? `|y| at row ${position[1]}, column ${position[2]} of its output` : response;
}

/** Counts in words: 1 unit, 2 units. */
export const count = (number, noun, plural = `${noun}s`) =>
  `${whole(number)} ${number === 1 ? noun : plural}`;

/** Names a group by a letter: 0 -> A. After Z come numbers. */
export const groupName = (group) =>
  group < 26 ? String.fromCharCode(65 + group) : String(group + 1);

/**
 * Names an image in words, for alternative texts.
 *
 * @param {{name: string, label?: string|null}} image
 */
export const imageText = (image) => (image.label ? `${image.label} (${image.name})` : image.name);
