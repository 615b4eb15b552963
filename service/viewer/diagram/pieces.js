/** Draws in pieces, as many in a frame as there is time for. */

const MOST = 128; // in one frame: where a GPU draws, it draws after a clock is read here

// Where no GPU draws, what a canvas is told is only noted down until someone looks at it, and then
// all of it is drawn: so it is looked at after each piece, which takes as long as it takes to draw.
const glance = document.createElement("canvas").getContext("2d");
// Smaller ones are kept out of a GPU, and what they look at would have to come from there.
const GLANCE = 256;
glance.canvas.height = GLANCE;

function lookAt(canvas) {
  glance.drawImage(canvas, 0, 0, 1, 1, 0, 0, 1, 1);
  // Forgets what it saw. Else a canvas of 7 MB would be copied before the next piece, in 2.5 ms.
  glance.canvas.width = GLANCE;
}

export class Pieces {
  #canvas;
  #pieces;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {Generator} pieces draws on it, and yields after each piece.
   */
  constructor(canvas, pieces) {
    this.#canvas = canvas;
    this.#pieces = pieces;
  }

  /** Draws one piece at least, and no more after `until`, and tells whether all is drawn. */
  go(until) {
    for (let count = 0; count < MOST; count += 1) {
      if (this.#pieces.next().done) return true;
      lookAt(this.#canvas);
      if (performance.now() >= until) break;
    }
    return false;
  }
}
