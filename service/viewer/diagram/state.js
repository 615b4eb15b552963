/**
 * What the reader asked for, as it stands in an address, and what follows from it.
 *
 * Plain and small, every key optional; what is as it was first is left out:
 *
 * - `fraction`: kept, of those in `data.levels`.
 * - `selection`: "convolution:channel" of a node, "convolution:out:in" of a kernel.
 * - `zoom`: "scale,x,y": pixels a point, and the point in the middle.
 * - `nodes`, `kernels`: sizes, 1 at first.
 * - `images`: "features", "crops", "both" or "none"; features first, where there are any.
 * - `hide`: of "excitation,inhibition,unknown,shared,left,right", those that are not drawn.
 * - `table`: 1 where the table is open.
 */
export class State {
  #graph;
  #values = {};

  constructor(graph) {
    this.#graph = graph;
  }

  get plain() {
    return { ...this.#values };
  }

  /**
   * Changes what is given and leaves the rest; null or undefined takes a key back.
   *
   * @returns {object} what of it is new.
   */
  change(given) {
    const same = ([name, value]) => String(value ?? "") === String(this.#values[name] ?? "");
    const changes = Object.fromEntries(Object.entries(given).filter((entry) => !same(entry)));
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === undefined || value === "") delete this.#values[name];
      else this.#values[name] = value;
    }
    return changes;
  }

  /** Gives the index of the kept fraction; the first where it is not there. */
  get level() {
    if (this.#values.fraction === undefined) return 0;
    const wanted = Number(this.#values.fraction);
    const close = (level) => Math.abs(level.fraction / wanted - 1) < 1e-6;
    return Math.max(0, this.#graph.data.levels.findIndex(close));
  }

  get selection() {
    return this.#values.selection ?? null;
  }

  /** Gives the view as {k, x, y}; null: all of it. */
  get zoom() {
    const [k, x, y] = String(this.#values.zoom ?? "").split(",").map(Number);
    return k > 0 && Number.isFinite(x) && Number.isFinite(y) ? { k, x, y } : null;
  }

  get nodes() {
    return this.#size("nodes");
  }

  get kernels() {
    return this.#size("kernels");
  }

  #size(name) {
    return Math.min(4, Math.max(0.25, Number(this.#values[name] ?? 1) || 1));
  }

  /** Tells which images are drawn, of what was asked for and of what there is. */
  get images() {
    const { featured, cropped } = this.#graph;
    const asked = this.#values.images;
    if (asked === "none" || !(featured || cropped)) return "none";
    if (!featured) return "crops";
    if (!cropped) return "features";
    return asked === "crops" || asked === "both" ? asked : "features";
  }

  /** Gives the parts that are not drawn. @returns {Set<string>} */
  get hidden() {
    return new Set(String(this.#values.hide ?? "").split(",").filter(Boolean));
  }

  /** Gives the change that hides a part, or shows it. */
  hiding(part, hidden) {
    const parts = this.hidden;
    if (hidden) parts.add(part);
    else parts.delete(part);
    return { hide: [...parts].sort().join(",") || null };
  }

  /** Gives what a saved figure is to be like, by the names that the server has for it. */
  get look() {
    const { fraction, nodes, kernels, images, hide, selection } = this.#values;
    return {
      "d.fraction": this.level ? fraction : null,
      "d.images": images ? this.images : null,
      "d.nodes": nodes === undefined ? null : this.nodes,
      "d.kernels": kernels === undefined ? null : this.kernels,
      "d.hide": hide,
      "d.selection": this.#graph.itemNamed(this.selection) ? selection : null,
    };
  }

  get table() {
    return Boolean(Number(this.#values.table ?? 0));
  }
}
