/** Tells which of some points a drawn line goes around. */

/**
 * Tells whether (x, y) lies inside a polygon of [x, y] corners: how often a ray to the right
 * crosses it.
 */
export function inside(polygon, [x, y]) {
  let crossings = 0;
  polygon.forEach(([ax, ay], at) => {
    const [bx, by] = polygon[(at + 1) % polygon.length];
    if (ay > y !== by > y && x < ax + ((y - ay) * (bx - ax)) / (by - ay)) crossings += 1;
  });
  return crossings % 2 === 1;
}

/**
 * Finds the point that an arrow key goes to: the nearest in that direction, where what lies to the
 * side counts double.
 *
 * @param {Array<{x: number, y: number}>} points in pixels.
 * @param {number} from index in `points`.
 * @param {string} key "ArrowLeft", "ArrowRight", "ArrowUp" or "ArrowDown".
 * @returns {number} index in `points`; `from` where nothing lies there.
 */
export function neighbour(points, from, key) {
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  let best = from;
  let least = Infinity;
  points.forEach((point, at) => {
    const x = point.x - points[from].x;
    const y = point.y - points[from].y;
    const along = x * dx + y * dy;
    const aside = Math.abs(x * dy) + Math.abs(y * dx);
    if (at === from || along <= 0) return;
    const far = along + 2 * aside;
    if (far < least) {
      least = far;
      best = at;
    }
  });
  return best;
}
