/** Summarizes a layer's units, from r of each unit at each level. */

/** @import { DistributionRow } from "openapi" */

import { count, percent } from "./figures.js";

const QUANTILES = [0.1, 0.25, 0.5, 0.75, 0.9];

/**
 * Counts the units that have their smallest faithful circuit at each level, the smallest first.
 *
 * @param {DistributionRow[]} rows a row for each unit.
 * @param {number[]} fractions kept fractions, in any order.
 * @returns {{bins: Array<{name: string, count: number, fraction: number, says: string}>, none: number, units: number}} `none`: how
 *   many reach the threshold with no stored circuit.
 */
export function smallestCounts(rows, fractions) {
  const counts = new Map(fractions.map((fraction) => [fraction, 0]));
  for (const { keep } of rows) if (keep !== null) counts.set(keep, counts.get(keep) + 1);
  return {
    bins: [...counts]
      .sort(([a], [b]) => a - b)
      .map(([fraction, number]) => ({
        name: percent(fraction),
        count: number,
        fraction,
        says: `${count(number, "unit")} at ${percent(fraction)} of the kernels`,
      })),
    none: rows.filter(({ keep }) => keep === null).length,
    units: rows.length,
  };
}

/**
 * Gives quantiles of r over the units at each level: tenth, quarter, half, three quarters, nine
 * tenths. Undefined r counts as 0.
 *
 * @param {DistributionRow[]} rows a row for each unit.
 * @param {number[]} fractions kept fractions, in any order.
 * @returns {(number|null)[][]} a list a quantile, in the order of the fractions.
 */
export function quantiles(rows, fractions) {
  const sorted = fractions.map((_, level) =>
    rows.map((row) => row.r[level] ?? 0).sort((a, b) => a - b),
  );
  return QUANTILES.map((q) => sorted.map((values) => between(values, q)));
}

/** Interpolates as numpy does by default: linearly between the two nearest. */
function between(values, q) {
  if (!values.length) return null;
  const at = q * (values.length - 1);
  const low = Math.floor(at);
  const high = Math.ceil(at);
  return values[low] + (values[high] - values[low]) * (at - low);
}
