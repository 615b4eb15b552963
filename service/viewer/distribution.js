/** Summarizes a layer's units as bars: how many have which smallest faithful circuit. */

/** @import { DistributionRow } from "openapi" */

import { count, percent } from "./figures.js";

/**
 * Gives the units that have their smallest faithful circuit at each level, the smallest first.
 *
 * @param {DistributionRow[]} rows a row for each sparsity level.
 * @returns {{bins: Array<{name: string, count: number, fraction: number, says: string}>, none: number, units: number}} `none`: how
 *   many reach the threshold with no stored circuit.
 */
export function smallestCounts(rows) {
  const units = rows[0]?.units ?? 0;
  return {
    bins: rows
      .map(({ fraction, smallest }) => ({
        name: percent(fraction),
        count: smallest,
        fraction,
        says: `${count(smallest, "unit")} at ${percent(fraction)} of the kernels`,
      }))
      .sort((a, b) => a.fraction - b.fraction),
    none: rows.reduce((left, { smallest }) => left - smallest, units),
    units,
  };
}
