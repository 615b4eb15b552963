/** Places a box on the stage beside what it speaks of, and never over it. */

/** @typedef {{left: number, right: number, top: number, bottom: number}} Box */

const EDGE = 4; // pixels to the stage's edge

const overlap = (a, b) =>
  Math.max(0, Math.min(a.right, b.right) - Math.max(a.left, b.left)) *
  Math.max(0, Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top));

/**
 * Finds where a box covers none of some blocks: beside all of them, beside the first, or in a corner
 * of the stage. Where it is too large for any, it is cut to the larger room above or below them.
 *
 * @param {{width: number, height: number}} size of the box.
 * @param {{width: number, height: number}} stage
 * @param {Box[]} blocks
 * @param {Box[]} around what it covers none of either, if there is a place like that.
 * @returns {{left: number, top: number, height: number}}
 */
export function placed({ width, height }, stage, blocks, around) {
  const whole = {
    left: Math.min(...blocks.map((block) => block.left)),
    right: Math.max(...blocks.map((block) => block.right)),
    top: Math.min(...blocks.map((block) => block.top)),
    bottom: Math.max(...blocks.map((block) => block.bottom)),
  };
  const within = (value, length, room) => Math.min(Math.max(EDGE, value), room - length - EDGE);
  const right = stage.width - width - EDGE;
  const low = stage.height - height - EDGE;
  const candidates = [];
  for (const block of [blocks[0], whole]) {
    const y = within((block.top + block.bottom) / 2 - height / 2, height, stage.height);
    const x = within((block.left + block.right) / 2 - width / 2, width, stage.width);
    candidates.push([block.right, y], [block.left - width, y], [x, block.bottom], [x, block.top - height]);
  }
  const corners = [[right, EDGE], [EDGE, EDGE], [right, low], [EDGE, low]];
  /** @type {[number[][], Box[]][]} */
  const attempts = [[candidates, [...blocks, ...around]], [candidates, blocks], [corners, blocks]];
  for (const [some, avoided] of attempts) {
    for (const [left, top] of some) {
      if (left < EDGE || left > right || top < EDGE || top > low) continue;
      const box = { left, top, right: left + width, bottom: top + height };
      if (avoided.every((block) => overlap(box, block) === 0)) return { left, top, height };
    }
  }
  const left = within((whole.left + whole.right) / 2 - width / 2, width, stage.width);
  const above = whole.top - EDGE;
  const below = stage.height - EDGE - whole.bottom;
  const room = Math.min(height, Math.max(above, below, 0));
  return { left, top: below >= above ? whole.bottom : whole.top - room, height: room };
}
