/** Draws a line from node to node: a cubic with level ends. */

const SAMPLES = 257;

/** Holds the share of the height at each share of the width. */
const PROFILE = (() => {
  const found = new Float32Array(SAMPLES);
  for (let i = 0; i < SAMPLES; i += 1) {
    const wanted = i / (SAMPLES - 1);
    let low = 0;
    let high = 1;
    for (let step = 0; step < 24; step += 1) {
      const t = (low + high) / 2;
      const x = 1.5 * t * (1 - t) + t * t * t;
      if (x < wanted) low = t;
      else high = t;
    }
    const t = (low + high) / 2;
    found[i] = t * t * (3 - 2 * t);
  }
  return found;
})();

const indexOf = (share) => Math.min(1, Math.max(0, share)) * (SAMPLES - 1);

/** Gives the share of the height at a share of the width. */
export function heightAt(share) {
  const at = indexOf(share);
  const before = Math.min(SAMPLES - 2, Math.floor(at));
  return PROFILE[before] + (PROFILE[before + 1] - PROFILE[before]) * (at - before);
}

/** Gives the slope at a share of the width, of a curve as high as wide. */
export function slopeAt(share) {
  const next = Math.min(SAMPLES - 1, Math.round(indexOf(share)) + 1);
  return ((PROFILE[next] - PROFILE[Math.max(0, next - 2)]) * (SAMPLES - 1)) / 2;
}

/** Adds the curve to a path. */
export function traceCurve(context, x0, y0, x1, y1) {
  const middle = (x0 + x1) / 2;
  context.moveTo(x0, y0);
  context.bezierCurveTo(middle, y0, middle, y1, x1, y1);
}
