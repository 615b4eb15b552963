/** Draws nodes on a canvas: images, joints, and the image's own channels. */

const RGB = ["#d24b40", "#3f9a55", "#3f6fd1"];

export class Nodes {
  #graph;
  #measures;
  #colours;
  #nodeImages;

  constructor({ graph, measures, colours, nodeImages }) {
    this.#graph = graph;
    this.#measures = measures;
    this.#colours = colours;
    this.#nodeImages = nodeImages;
  }

  /** @param {number} ratio of the screen's pixels to one of the page. */
  draw(context, { k, x: cx, y: cy }, node, ratio) {
    const graph = this.#graph;
    const band = graph.bandOf(node);
    const size = Math.max(1, Math.round(this.#measures.size(node) * k));
    // On whole pixels, or images and frames blur.
    const snap = (value) => Math.round(value - size / 2) + size / 2;
    const x = snap((graph.x[node] - cx) * k);
    const y = snap((graph.y[node] - cy) * k);
    if (graph.isJoint(node)) this.#drawJoint(context, band.kind, x, y, size);
    else if (band.kind === "image") this.#drawColour(context, node, x, y, size);
    else this.#drawChannel(context, node, { x, y, size, ratio });
  }

  #drawColour(context, node, x, y, size) {
    const channel = this.#graph.data.nodes.channel[node];
    const coloured = this.#graph.bandOf(node).channels === RGB.length;
    context.fillStyle = coloured ? RGB[channel] : "#8b8b85";
    context.fillRect(x - size / 2, y - size / 2, size, size);
    if (size <= 5) return;
    // Within where there is room, else beside.
    const inside = size > 16;
    context.fillStyle = inside ? "#fff" : this.#colours.get("ink");
    context.font = `600 ${inside ? Math.min(15, size * 0.5) : 10}px ${this.#colours.font}`;
    context.textAlign = inside ? "center" : "right";
    context.textBaseline = "middle";
    const letter = coloured ? "RGB"[channel] : String(channel);
    context.fillText(letter, inside ? x : x - size / 2 - 2, y + 0.5);
  }

  #drawChannel(context, node, { x, y, size, ratio }) {
    const colours = this.#colours;
    const { unit } = this.#graph.bandOf(node);
    const channel = String(this.#graph.data.nodes.channel[node]);
    const kind = this.#measures.images;
    const half = this.#measures.doubled ? size : size / 2;
    const left = x - half;
    const top = y - size / 2;
    context.fillStyle = colours.get("line-strong");
    context.fillRect(left, top, 2 * half, size);
    if (size > 4) {
      if (this.#measures.doubled) {
        this.#nodeImages.draw(context, node, { kind: "crops", x: left, y: top, size, ratio });
        this.#nodeImages.draw(context, node, { kind: "features", x, y: top, size, ratio });
      } else if (kind !== "none") {
        this.#nodeImages.draw(context, node, { kind, x: left, y: top, size, ratio });
      }
    }
    if (size > 9) {
      context.strokeStyle = colours.get(unit ? "ink" : "ink-3");
      context.lineWidth = unit ? 2 : 1;
      context.strokeRect(left + 0.5, top + 0.5, 2 * half - 1, size - 1);
    }
    if (size >= 34 && kind !== "none") this.#drawChip(context, channel, left, top + size);
    else if (size >= 16 && kind === "none") {
      context.fillStyle = colours.get("ink");
      context.font = `${Math.min(13, size * 0.42)}px ${colours.font}`;
      context.textAlign = "center";
      context.textBaseline = "middle";
      context.fillText(channel, x, y);
    }
  }

  #drawChip(context, text, x, bottom) {
    context.font = `10px ${this.#colours.font}`;
    const width = context.measureText(text).width + 6;
    context.fillStyle = "rgba(0, 0, 0, 0.62)";
    context.fillRect(x, bottom - 13, width, 13);
    context.fillStyle = "#fff";
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillText(text, x + 3, bottom - 6);
  }

  #drawJoint(context, kind, x, y, size) {
    const radius = Math.max(1.2, size / 2);
    context.fillStyle = this.#colours.get("surface");
    context.strokeStyle = this.#colours.get("ink-2");
    context.lineWidth = Math.max(0.7, Math.min(1.6, size / 9));
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
    if (size < 5) {
      context.fillStyle = this.#colours.get("ink-3");
      context.fill();
      return;
    }
    const arm = radius * (kind === "sum" ? 0.62 : 0.46);
    if (kind === "sum") {
      context.moveTo(x - arm, y);
      context.lineTo(x + arm, y);
      context.moveTo(x, y - arm);
      context.lineTo(x, y + arm);
    } else {
      context.moveTo(x - arm, y - arm);
      context.lineTo(x + arm, y + arm);
      context.moveTo(x - arm, y + arm);
      context.lineTo(x + arm, y - arm);
    }
    if (kind === "mix") {
      context.moveTo(x - radius * 0.62, y);
      context.lineTo(x + radius * 0.62, y);
    }
    context.stroke();
  }
}
