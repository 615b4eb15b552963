/* A circuit diagram: canvas for lines and nodes, HTML for controls, card and table.

One file, since the offline page holds it whole in one script; it imports nothing. It sets no style
attributes and makes no style elements, so it runs under `script-src 'self'; style-src 'self'`.
Styles are in diagram.css.

    import { Diagram } from "./diagram.js";
    const diagram = new Diagram(element, data, { pictureUrl, featureUrl, onSelect, state, onState });
    diagram.setState({ selection: "features.3.squeeze:7" });
    diagram.destroy();

data: the JSON of `service/diagram/data.py`, where every field is described.
options, all optional:
    pictureUrl(image): URL of an image, at the size of the network's input.
    featureUrl(node): URL of a feature image; node is {kind, convolution, channel, layer, unit,
        feature}, feature the variant's name.
    onSelect(item): a node or kernel was isolated, or null again.
    onState(state): the state changed, a quarter of a second ago at least.
    state: to begin with.
    linkTo(node): address of a page about a node, or null.
    wheel: "focus": the wheel zooms only where the drawing has the focus, so that pages scroll.
state, plain and small, every key optional; what is as it was first is left out:
    fraction: kept, of the ladder in `data.rungs`.
    selection: "convolution:channel" of a node, "convolution:out:in" of a kernel.
    zoom: "scale,x,y": pixels a point, and the point in the middle.
    nodes, kernels: sizes, 1 at first.      pictures: "crops", "features", "both" or "none".
    hide: of "excitation,inhibition,unknown,shared,left,right", those that are not drawn.
    table: 1 where the table is open. */

const ROW = 40;
const NODE = 30;
const CURVE = 257;
const WIDTHS = 6;
const SETTLE_MS = 110;
const TELL_MS = 250;
const FRAME_MS = 14; // of drawing, in one frame
const MARGIN = 0.2; // of the stage, drawn around it for panning
const SIDES = ["shared", "left", "right"];
const COLOURS = [
  "ink", "ink-2", "ink-3", "line", "line-strong", "surface", "sunken", "accent", "excite",
  "inhibit", "unknown", "shared", "left", "right", "zero",
];
const SUBPIXEL = 0.35;

/** Share of the height at each share of the width of a line: a cubic with level ends. */
const PROFILE = (() => {
  const found = new Float32Array(CURVE);
  for (let i = 0; i < CURVE; i += 1) {
    const wanted = i / (CURVE - 1);
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

const number = new Intl.NumberFormat("en");
const percent = (share) =>
  share >= 0.1 ? `${(100 * share).toFixed(1)} %` : `${Number((100 * share).toPrecision(2))} %`;
const digits = (value) =>
  value === null || value === undefined ? "unknown" : String(Number(value.toPrecision(4)));

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** The numbers of a document as typed arrays, with what follows from them. */
class Graph {
  constructor(data) {
    this.data = data;
    const { nodes, bends, edges, wires } = data;
    this.nodeCount = nodes.band.length;
    this.edgeCount = edges.end.length;
    this.wireCount = wires.end.length;
    this.x = Float32Array.from([...nodes.x, ...bends.x]);
    this.y = Float32Array.from([...nodes.y, ...bends.y]);
    this.band = Uint16Array.from(nodes.band);
    this.start = Uint32Array.from([...edges.start, ...wires.start]);
    this.end = Uint32Array.from([...edges.end, ...wires.end]);
    this.rungs = Int32Array.from([...edges.rungs, ...wires.rungs]);
    this.nodeRungs = Int32Array.from(nodes.rungs);
    this.strength = Float32Array.from(edges.strength);
    this.sign = Int8Array.from(edges.contribution, (c) => (c === null || c === 0 ? 0 : Math.sign(c)));
    this.side = Uint8Array.from(edges.side);
    this.out = this.#lists(this.start);
    this.into = this.#lists(this.end);
    this.kinds = data.bands.map((band) => band.kind);
    this.byName = new Map();
    for (let n = 0; n < this.nodeCount; n += 1) this.byName.set(this.nodeName(n), n);
    this.#weights();
  }

  /** For each point the lines that start, or end, there. */
  #lists(ends) {
    const first = new Uint32Array(this.x.length + 1);
    for (const end of ends) first[end + 1] += 1;
    for (let i = 0; i < this.x.length; i += 1) first[i + 1] += first[i];
    const lines = new Uint32Array(ends.length);
    const next = first.slice();
    ends.forEach((end, line) => {
      lines[next[end]] = line;
      next[end] += 1;
    });
    return (point) => lines.subarray(first[point], first[point + 1]);
  }

  #weights() {
    const { scale, values } = this.data.weights;
    const bytes = atob(values);
    this.weightBytes = Int8Array.from(bytes, (c) => (c.charCodeAt(0) << 24) >> 24);
    this.weightStart = new Int32Array(this.edgeCount);
    let next = 0;
    for (let e = 0; e < this.edgeCount; e += 1) {
      const kernel = this.bandOf(this.end[e]).kernel;
      this.weightStart[e] = scale[e] === null ? -1 : next;
      if (scale[e] !== null && kernel) next += kernel[0] * kernel[1];
    }
  }

  bandOf(node) {
    return this.data.bands[this.band[node]];
  }

  nodeName(node) {
    return `${this.bandOf(node).name}:${this.data.nodes.channel[node]}`;
  }

  edgeName(edge) {
    return `${this.nodeName(this.end[edge])}:${this.data.edges.channel[edge]}`;
  }

  edgeNamed(name) {
    const cut = name.lastIndexOf(":");
    const node = this.byName.get(name.slice(0, cut));
    const channel = Number(name.slice(cut + 1));
    if (node === undefined) return -1;
    for (const line of this.into(node)) {
      if (line < this.edgeCount && this.data.edges.channel[line] === channel) return line;
    }
    return -1;
  }

  /** What a page is told of a node. */
  describe(node) {
    const band = this.bandOf(node);
    const own = band.unit || band.kind === "unit";
    return {
      type: "node",
      kind: band.kind,
      convolution: band.kind === "channel" ? band.name : null,
      channel: this.data.nodes.channel[node],
      layer: own ? this.data.layers[0] : null,
      unit: own ? this.data.units[0] : null,
      feature: this.data.nodes.feature[node] || null,
    };
  }
}

export class Diagram {
  #graph;
  #options;
  #state = {};
  #dom = {};
  #view = { k: 1, x: 0, y: 0 };
  #fitted = true;
  #moved = false;
  #size = { width: 0, height: 0, ratio: 1 };
  #colours = {};
  #visible;
  #shown = 0;
  #isolated = null;
  #hover = null;
  #focus = null;
  #pictures = new Map();
  #thumbs = null;
  #base = null;
  #building = null;
  #budget = 1000;
  #frame = 0;
  #glance = document.createElement("canvas").getContext("2d");
  #settle = 0;
  #telling = 0;
  #pointers = new Map();
  #listening = new AbortController();
  #observers = [];
  #rung = 0;
  #hidden = new Set();

  constructor(element, data, options = {}) {
    this.#graph = new Graph(data);
    this.#options = options;
    this.#visible = new Uint8Array(this.#graph.start.length);
    this.#build(element);
    this.#theme();
    this.#listen();
    this.#resize();
    Object.assign(this.#state, options.state);
    this.#apply({ zoom: 0, table: 0, selection: 0, ...this.#state });
  }

  /** The state as it is now; see the head of this file. */
  get state() {
    return { ...this.#state };
  }

  /** Kernels drawn now, by fraction and by what is hidden. */
  get shown() {
    return this.#shown;
  }

  /** Changes what is given and leaves the rest; null or undefined takes a key back. */
  setState(given, { quiet = false } = {}) {
    const same = ([name, value]) => String(value ?? "") === String(this.#state[name] ?? "");
    const changes = Object.fromEntries(Object.entries(given).filter((entry) => !same(entry)));
    if (!Object.keys(changes).length) return;
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === undefined || value === "") delete this.#state[name];
      else this.#state[name] = value;
    }
    this.#apply(changes);
    if (!quiet) this.#tell();
  }

  /** Everything in the middle, as large as fits. */
  fit() {
    this.#fitted = true;
    delete this.#state.zoom;
    this.#fitView();
    this.#redraw();
    this.#tell();
  }

  /** Reads the colours anew; done by itself where the system's or the page's theme changes. */
  refreshTheme() {
    this.#theme();
    this.#redraw();
  }

  destroy() {
    this.#listening.abort();
    for (const observer of this.#observers) observer.disconnect();
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#settle);
    clearTimeout(this.#telling);
    this.#frame = -1;
    this.#dom.root.remove();
  }

  // ---------------------------------------------------------------- the elements

  #build(host) {
    const { data } = this.#graph;
    const dom = this.#dom;
    const id = `ca-${Math.random().toString(36).slice(2, 8)}`;
    dom.edges = make("canvas", { class: "ca-layer", "aria-hidden": "true" });
    dom.top = make("canvas", { class: "ca-layer", "aria-hidden": "true" });
    dom.card = make("div", { class: "ca-card", hidden: true });
    dom.current = make("div", { class: "ca-sr", id: `${id}-current`, role: "img" });
    dom.chosen = make("div", { class: "ca-chosen", hidden: true });
    dom.note = make("p", { class: "ca-note", hidden: !data.note }, data.note);
    dom.stage = make(
      "div",
      {
        class: "ca-stage",
        tabindex: "0",
        role: "application",
        "aria-label": `Circuit diagram of ${data.title}`,
        "aria-describedby": `${id}-help`,
      },
      dom.edges,
      dom.top,
      dom.note,
      dom.current,
      dom.chosen,
      dom.card,
    );
    dom.help = make(
      "p",
      { class: "ca-sr", id: `${id}-help` },
      "Up and down arrows go along a column, left and right along the strongest kernel. Comma and " +
        "full stop go through the kernels of a channel. Enter isolates, Escape resets. Plus and " +
        "minus zoom, 0 shows all. A table of all channels and kernels follows.",
    );
    dom.live = make("p", { class: "ca-sr", "aria-live": "polite" });
    dom.count = make("p", { class: "ca-count" });
    dom.table = make("div", { class: "ca-table-body" });
    dom.details = make(
      "details",
      { class: "ca-table", ontoggle: () => this.#toggleTable() },
      make("summary", {}, "Table of channels and kernels"),
      dom.table,
    );
    dom.probes = make("span", { class: "ca-sr", "aria-hidden": "true" });
    for (const colour of COLOURS) {
      dom.probes.append(make("i", { class: `ca-c-${colour}`, "data-colour": colour }));
    }
    dom.root = make(
      "section",
      { class: "ca-diagram" },
      this.#controls(),
      dom.stage,
      make("div", { class: "ca-foot" }, dom.count, this.#legend()),
      dom.details,
      dom.help,
      dom.live,
      dom.probes,
    );
    host.append(dom.root);
  }

  #controls() {
    const { data } = this.#graph;
    const dom = this.#dom;
    dom.kept = make("output", { class: "ca-value" });
    dom.rung = make("input", {
      type: "range",
      min: "0",
      max: String(data.rungs.length - 1),
      step: "1",
      value: String(data.rungs.length - 1),
      "aria-label": "Kept fraction",
      oninput: () => {
        const rung = data.rungs.length - 1 - Number(dom.rung.value);
        this.setState({ fraction: rung ? data.rungs[rung].fraction : null });
      },
    });
    const size = (name, label) => {
      dom[name] = make("input", {
        type: "range",
        min: "-2",
        max: "2",
        step: "0.1",
        value: "0",
        "aria-label": label,
        oninput: () => {
          const value = Number((2 ** Number(dom[name].value)).toFixed(2));
          this.setState({ [name]: value === 1 ? null : value });
        },
      });
      return make("label", { class: "ca-control" }, make("span", {}, label), dom[name]);
    };
    const featured = data.nodes.feature.some(Boolean);
    const cropped = data.nodes.crops.some((some) => some.length);
    const choices = [
      ["crops", "Crops", cropped],
      ["features", "Features", featured],
      ["both", "Both", featured && cropped],
      ["none", "None", featured || cropped],
    ].filter((choice) => choice[2]);
    dom.pictures = make(
      "fieldset",
      { class: "ca-choice", hidden: choices.length < 2 },
      make("legend", {}, "Pictures"),
      ...choices.map(([value, label]) =>
        make(
          "label",
          {},
          make("input", {
            type: "radio",
            value,
            onchange: () => this.setState({ pictures: value }),
          }),
          make("span", {}, label),
        ),
      ),
    );
    // One name for the group: the arrow keys go through it.
    const group = `ca-pictures-${Math.random().toString(36).slice(2)}`;
    for (const radio of dom.pictures.querySelectorAll("input")) radio.name = group;
    dom.parts = make("fieldset", { class: "ca-parts" }, make("legend", {}, "Kernels drawn"));
    for (const [part, label] of this.#parts()) {
      const box = make("input", {
        type: "checkbox",
        value: part,
        checked: true,
        onchange: () => this.#togglePart(part, box.checked),
      });
      dom.parts.append(
        make("label", { class: `ca-part ca-c-${this.#partColour(part)}` }, box, make("i", {}),
          make("span", {}, label)),
      );
    }
    const button = (label, text, action) =>
      make("button", { type: "button", "aria-label": label, title: label, onclick: action }, text);
    return make(
      "div",
      { class: "ca-controls", role: "group", "aria-label": "How the diagram is drawn" },
      make(
        "label",
        { class: "ca-control ca-kept", hidden: data.rungs.length < 2 },
        make("span", {}, "Kept"),
        dom.rung,
        dom.kept,
      ),
      size("nodes", "Nodes"),
      size("kernels", "Kernels"),
      dom.parts,
      dom.pictures,
      make(
        "div",
        { class: "ca-buttons" },
        button("Zoom out", "−", () => this.#zoomBy(1 / 1.4)),
        button("Zoom in", "+", () => this.#zoomBy(1.4)),
        button("Show all of it", "Fit", () => this.fit()),
        (dom.reset = button("Show all kernels again", "Reset", () => this.#select(null))),
      ),
    );
  }

  /** What can be hidden: the sides of two circuits, or the signs of one. */
  #parts() {
    const { data } = this.#graph;
    if (data.sides.length) {
      return [["shared", "Shared"], ["left", "Only left"], ["right", "Only right"]];
    }
    const parts = [["excitation", "Excitation"], ["inhibition", "Inhibition"]];
    if (this.#graph.sign.includes(0)) parts.push(["unknown", "No sign"]);
    return parts;
  }

  #partColour(part) {
    return { excitation: "excite", inhibition: "inhibit" }[part] ?? part;
  }

  #legend() {
    const line = (className) => make("i", { class: `ca-stroke ${className}` });
    const { data } = this.#graph;
    return make(
      "p",
      { class: "ca-legend" },
      line("ca-thin"), line("ca-middle"), line("ca-thick"),
      make("span", {}, "width: root of the score over the largest of its convolution"),
      make("span", { class: "ca-scale", "aria-hidden": "true" }),
      make("span", {}, "weights, below and above 0"),
      data.sides.length
        ? make("span", { class: "ca-sides" }, `left: ${data.sides[0]}; right: ${data.sides[1]}`)
        : null,
    );
  }

  // ---------------------------------------------------------------- state

  #apply(changes) {
    const { data } = this.#graph;
    const state = this.#state;
    const dom = this.#dom;
    this.#rung = 0;
    if (state.fraction !== undefined) {
      const wanted = Number(state.fraction);
      const found = data.rungs.findIndex((rung) => Math.abs(rung.fraction / wanted - 1) < 1e-6);
      this.#rung = Math.max(0, found);
    }
    dom.rung.value = String(data.rungs.length - 1 - this.#rung);
    const rung = data.rungs[this.#rung];
    const kept = `${Number((100 * rung.fraction).toPrecision(3))} %`;
    dom.kept.textContent = kept;
    dom.rung.setAttribute("aria-valuetext", `${kept}, ${number.format(rung.kernels)} kernels`);
    for (const name of ["nodes", "kernels"]) {
      const size = Math.min(4, Math.max(0.25, Number(state[name] ?? 1) || 1));
      dom[name].value = String(Math.log2(size));
    }
    this.#hidden = new Set(String(state.hide ?? "").split(",").filter(Boolean));
    for (const box of dom.parts.querySelectorAll("input")) {
      box.checked = !this.#hidden.has(box.value);
    }
    for (const radio of dom.pictures.querySelectorAll("input")) {
      radio.checked = radio.value === this.#pictureKind();
    }
    if ("zoom" in changes) {
      const [k, x, y] = String(state.zoom ?? "").split(",").map(Number);
      this.#fitted = !(k > 0 && Number.isFinite(x) && Number.isFinite(y));
      if (!this.#fitted) this.#view = { k, x, y };
    }
    if (this.#fitted) this.#fitView();
    if ("table" in changes) dom.details.open = Boolean(Number(state.table ?? 0));
    this.#filter();
    if ("selection" in changes || "fraction" in changes || "hide" in changes) this.#isolate();
    this.#redraw();
  }

  /** Says where the reader is, once they have rested. */
  #tell() {
    clearTimeout(this.#telling);
    this.#telling = setTimeout(() => this.#options.onState?.(this.state), TELL_MS);
  }

  #togglePart(part, on) {
    const hidden = new Set(this.#hidden);
    if (on) hidden.delete(part);
    else hidden.add(part);
    this.setState({ hide: [...hidden].sort().join(",") || null });
  }

  #pictureKind() {
    const { nodes } = this.#graph.data;
    const featured = nodes.feature.some(Boolean);
    const cropped = nodes.crops.some((some) => some.length);
    const asked = this.#state.pictures;
    if (asked === "none") return "none";
    if ((asked === "features" || asked === "both") && featured) return cropped ? asked : "features";
    return cropped ? "crops" : featured ? "features" : "none";
  }

  /** Which lines are drawn, by fraction and by what is hidden. */
  #filter() {
    const graph = this.#graph;
    const bit = 1 << this.#rung;
    const twoSides = graph.data.sides.length > 0;
    const hide = twoSides
      ? SIDES.map((side) => this.#hidden.has(side))
      : ["inhibition", "unknown", "excitation"].map((part) => this.#hidden.has(part));
    let shown = 0;
    for (let line = 0; line < graph.start.length; line += 1) {
      let on = (graph.rungs[line] & bit) !== 0;
      if (on && line < graph.edgeCount) {
        on = !hide[twoSides ? graph.side[line] : graph.sign[line] + 1];
        if (on) shown += 1;
      }
      this.#visible[line] = on ? 1 : 0;
    }
    this.#shown = shown;
    this.#count();
  }

  #count() {
    const { data } = this.#graph;
    const rung = data.rungs[this.#rung];
    const say = (value) => number.format(value);
    const [whose, ends] = data.sides.length
      ? ["both circuits", "either's unit"]
      : ["circuit", "the unit"];
    const parts = [
      `${say(this.#shown)} of ${say(rung.on_path)} kernels on a path drawn`,
      `${whose} of ${say(rung.kernels)}, of ${say(data.counts.reachable)} that can reach ${ends}`,
    ];
    if (data.counts.drawn) {
      parts.push(
        `${say(data.counts.crossings_after)} crossings, before ordering ` +
          say(data.counts.crossings_before),
      );
    }
    this.#dom.count.textContent = parts.join(" · ");
    this.#dom.root.dataset.shown = String(this.#shown);
  }

  // ---------------------------------------------------------------- isolating

  /** A node or a kernel by name, or null: only what is up or down its paths stays. */
  #select(name) {
    this.setState({ selection: name });
    this.#options.onSelect?.(this.#selected());
    this.#dom.live.textContent = name
      ? `Isolated: ${this.#label(this.#target())}. ${number.format(this.#isolated?.kernels ?? 0)} kernels.`
      : "All kernels shown";
  }

  #target() {
    const name = this.#state.selection;
    if (!name) return null;
    const node = this.#graph.byName.get(name);
    if (node !== undefined) return { node };
    const edge = this.#graph.edgeNamed(name);
    return edge < 0 ? null : { edge };
  }

  #selected() {
    const target = this.#target();
    if (!target) return null;
    if (target.node !== undefined) return this.#graph.describe(target.node);
    const { data } = this.#graph;
    return {
      type: "kernel",
      convolution: this.#graph.bandOf(this.#graph.end[target.edge]).name,
      out: data.nodes.channel[this.#graph.end[target.edge]],
      in: data.edges.channel[target.edge],
    };
  }

  #isolate() {
    const target = this.#target();
    const graph = this.#graph;
    this.#isolated = null;
    this.#dom.reset.disabled = !target;
    this.#dom.chosen.hidden = !target;
    if (!target) return;
    const lines = new Uint8Array(graph.start.length);
    const points = new Uint8Array(graph.x.length);
    const walk = (first, list, ends) => {
      const queue = [first];
      const seen = new Uint8Array(graph.x.length);
      seen[first] = 1;
      while (queue.length) {
        const point = queue.pop();
        points[point] = 1;
        for (const line of list(point)) {
          if (!this.#visible[line]) continue;
          lines[line] = 1;
          if (!seen[ends[line]]) {
            seen[ends[line]] = 1;
            queue.push(ends[line]);
          }
        }
      }
    };
    if (target.node !== undefined) {
      walk(target.node, graph.out, graph.end);
      walk(target.node, graph.into, graph.start);
    } else {
      lines[target.edge] = this.#visible[target.edge];
      walk(graph.end[target.edge], graph.out, graph.end);
      walk(graph.start[target.edge], graph.into, graph.start);
    }
    let kernels = 0;
    for (let e = 0; e < graph.edgeCount; e += 1) kernels += lines[e];
    this.#isolated = { lines, points, kernels };
    this.#showChosen(target);
  }

  /** What is isolated, a way to its own page where it has one, and a way back. */
  #showChosen(target) {
    const link = target.node !== undefined && this.#options.linkTo?.(this.#graph.describe(target.node));
    const back = () => {
      this.#select(null);
      this.#dom.stage.focus();
    };
    this.#dom.chosen.replaceChildren(
      make("strong", {}, this.#titles(target).title),
      make("span", { class: "ca-sub" }, `${number.format(this.#isolated.kernels)} kernels on its paths`),
      ...(link ? [make("a", { href: link }, "Open its page")] : []),
      make("button", { type: "button", "aria-label": "Show all kernels again", onclick: back }, "×"),
    );
  }

  #drawn(line) {
    return this.#visible[line] && (!this.#isolated || this.#isolated.lines[line]);
  }

  #nodeOn(node) {
    if (!(this.#graph.nodeRungs[node] & (1 << this.#rung))) return 0;
    return this.#isolated && !this.#isolated.points[node] ? 1 : 2;
  }

  // ---------------------------------------------------------------- view

  #fitView() {
    const { data } = this.#graph;
    const { width, height } = this.#size;
    const k = Math.min(width / Math.max(1, data.width), height / Math.max(1, data.height), 2.2);
    this.#view = { k: Math.max(k, 0.001), x: data.width / 2, y: data.height / 2 };
  }

  #toScreen(x, y) {
    const { k, x: cx, y: cy } = this.#view;
    return [(x - cx) * k + this.#size.width / 2, (y - cy) * k + this.#size.height / 2];
  }

  #fromScreen(sx, sy) {
    const { k, x, y } = this.#view;
    return [(sx - this.#size.width / 2) / k + x, (sy - this.#size.height / 2) / k + y];
  }

  #zoomBy(factor, sx = this.#size.width / 2, sy = this.#size.height / 2) {
    const [x, y] = this.#fromScreen(sx, sy);
    const k = Math.min(12, Math.max(0.01, this.#view.k * factor));
    this.#setView(k, x - (sx - this.#size.width / 2) / k, y - (sy - this.#size.height / 2) / k);
  }

  #setView(k, x, y) {
    const { data } = this.#graph;
    this.#fitted = false;
    this.#view = {
      k,
      x: Math.min(data.width, Math.max(0, x)),
      y: Math.min(data.height, Math.max(0, y)),
    };
    const round = (value) => Number(value.toPrecision(5));
    this.#state.zoom = [k, this.#view.x, this.#view.y].map(round).join(",");
    this.#moving();
    this.#tell();
  }

  #resize() {
    const box = this.#dom.stage.getBoundingClientRect();
    const ratio = Math.min(2, globalThis.devicePixelRatio || 1);
    const size = { width: Math.max(1, box.width), height: Math.max(1, box.height), ratio };
    const old = this.#size;
    if (old.width === size.width && old.height === size.height && old.ratio === ratio) return;
    this.#size = size;
    for (const canvas of [this.#dom.edges, this.#dom.top]) {
      canvas.width = Math.round(size.width * ratio);
      canvas.height = Math.round(size.height * ratio);
    }
    if (this.#fitted) this.#fitView();
    this.#redraw();
  }

  #theme() {
    for (const probe of this.#dom.probes.children) {
      this.#colours[probe.dataset.colour] = getComputedStyle(probe).color;
    }
    this.#colours.font = getComputedStyle(this.#dom.stage).fontFamily;
    this.#thumbs = null;
  }

  // ---------------------------------------------------------------- drawing

  /** Something else is to be seen: draw it anew, over as many frames as it needs. */
  #redraw() {
    clearTimeout(this.#settle);
    this.#building = null;
    this.#moved = true;
    this.#request();
  }

  /** The view moves: show what is drawn, moved along, and draw anew once it rests. */
  #moving() {
    if (this.#work() <= this.#budget) {
      this.#redraw();
      return;
    }
    this.#building = null;
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => this.#redraw(), SETTLE_MS);
    this.#request();
  }

  #request() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#tick();
    });
  }

  #tick() {
    if (this.#moved) {
      this.#moved = false;
      this.#building = this.#begin();
    }
    if (this.#building) {
      const before = performance.now();
      const done = this.#go(this.#building, this.#budget);
      // Where no GPU draws, lines are only noted down until the layer is looked at, and then
      // all drawn at once: look at it now, to spread that over frames and to know what it costs.
      this.#glance.drawImage(this.#building.canvas, 0, 0, 1, 1, 0, 0, 1, 1);
      const took = performance.now() - before;
      if (took > FRAME_MS) this.#budget *= Math.max(0.3, FRAME_MS / took);
      else if (took < FRAME_MS / 2) this.#budget *= 1.3;
      this.#budget = Math.round(Math.min(4000, Math.max(150, this.#budget)));
      if (done) {
        this.#base = this.#building;
        this.#building = null;
      }
    }
    this.#show();
    this.#drawTop();
    if (this.#building) this.#request();
  }

  #work() {
    return this.#isolated ? this.#isolated.kernels : this.#shown;
  }

  /** A layer as large as the stage and its margins, and the lines to draw on it by look. */
  #begin() {
    const graph = this.#graph;
    const { width, height, ratio } = this.#size;
    const view = { ...this.#view };
    const margin = this.#work() <= this.#budget ? 0 : MARGIN;
    const canvas = document.createElement("canvas");
    // Whole pixels, so that a layer at rest is copied as it is and stays sharp.
    const pad = [Math.round(width * margin * ratio), Math.round(height * margin * ratio)];
    canvas.width = this.#dom.edges.width + 2 * pad[0];
    canvas.height = this.#dom.edges.height + 2 * pad[1];
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, (width / 2) * ratio + pad[0], (height / 2) * ratio + pad[1]);
    const half = [(width * (0.5 + margin)) / view.k, (height * (0.5 + margin)) / view.k];
    const seen = [view.x - half[0], view.x + half[0], view.y - half[1], view.y + half[1]];
    const seenEdges = [];
    for (let e = 0; e < graph.edgeCount; e += 1) {
      if (this.#drawn(e) && this.#inView(e, seen)) seenEdges.push(e);
    }
    const wires = [];
    for (let w = graph.edgeCount; w < graph.start.length; w += 1) {
      if (this.#drawn(w) && this.#inView(w, seen)) wires.push(w);
    }
    const lines = this.#byLook(seenEdges);
    const count = seenEdges.length;
    return { canvas, context, view, pad, seen, lines, wires, count, bucket: 0, from: 0, stage: 0 };
  }

  /** Lines that are drawn alike, the weakest first. */
  #byLook(edges) {
    const graph = this.#graph;
    const twoSides = graph.data.sides.length > 0;
    const found = new Map();
    for (const e of edges) {
      const look = twoSides ? graph.side[e] : graph.sign[e] + 4;
      const key = Math.min(WIDTHS - 1, Math.floor(graph.strength[e] * WIDTHS)) * 8 + look;
      if (!found.has(key)) found.set(key, []);
      found.get(key).push(e);
    }
    return [...found.entries()].sort((a, b) => a[0] - b[0]);
  }

  #inView(line, [left, right, top, bottom]) {
    const { x, y, start, end } = this.#graph;
    const x0 = x[start[line]];
    const x1 = x[end[line]];
    const y0 = y[start[line]];
    const y1 = y[end[line]];
    return x1 >= left && x0 <= right && Math.max(y0, y1) >= top && Math.min(y0, y1) <= bottom;
  }

  /** Goes on with a layer, `budget` lines of it; whether it is whole. */
  #go(layer, budget) {
    const { context, view } = layer;
    if (layer.stage === 0) {
      this.#drawBands(context, view);
      this.#drawWires(context, view, layer.wires, this.#colours["line-strong"]);
      layer.stage = 1;
    }
    let left = budget;
    while (layer.bucket < layer.lines.length && left > 0) {
      const [key, edges] = layer.lines[layer.bucket];
      const some = edges.slice(layer.from, layer.from + Math.min(left, 256));
      this.#strokeEdges(context, view, some, key, layer.count);
      left -= some.length;
      layer.from += some.length;
      if (layer.from >= edges.length) {
        layer.bucket += 1;
        layer.from = 0;
      }
    }
    if (layer.bucket < layer.lines.length) return false;
    if (layer.stage === 1) {
      layer.stage = 2;
      if (budget - left > budget / 2) return false;
    }
    this.#drawNodes(context, view, layer.seen);
    this.#drawWeights(context, view, layer.lines.flatMap(([, edges]) => edges), layer.seen);
    return true;
  }

  #strokeEdges(context, view, edges, key, count) {
    const look = key % 8;
    const width = this.#lineWidth(Math.floor(key / 8) / (WIDTHS - 1), view.k);
    const name = look < 3 ? SIDES[look] : ["inhibit", "unknown", "excite"][look - 3];
    context.strokeStyle = this.#colours[name];
    context.lineWidth = Math.max(SUBPIXEL, width);
    // Many lines together stay legible where each lets the others through.
    const crowd = Math.min(0.8, Math.max(0.15, 9 / Math.sqrt(count + 1)));
    const level = Math.floor(key / 8) / (WIDTHS - 1);
    context.globalAlpha = (crowd + (0.95 - crowd) * level ** 1.3) * Math.min(1, width / SUBPIXEL);
    context.beginPath();
    for (const edge of edges) this.#trace(context, view, edge);
    context.stroke();
    context.globalAlpha = 1;
  }

  #lineWidth(strength, k) {
    const size = Math.min(4, Math.max(0.25, Number(this.#state.kernels ?? 1)));
    const zoom = Math.min(2.2, Math.max(0.35, k * 1.1));
    return (0.6 + 3.6 * strength) * zoom * size;
  }

  #half(point) {
    const graph = this.#graph;
    if (point >= graph.nodeCount) return 0;
    return this.#nodeSize(point) / 2 + (this.#pictureKind() === "both" && !this.#isJoint(point)
      ? this.#nodeSize(point) / 2 : 0);
  }

  #isJoint(node) {
    const kind = this.#graph.kinds[this.#graph.band[node]];
    return kind === "sum" || kind === "product" || kind === "mix";
  }

  /** Side of a node, in points. */
  #nodeSize(node) {
    const band = this.#graph.data.bands[this.#graph.band[node]];
    const size = Math.min(1.25, Math.max(0.25, Number(this.#state.nodes ?? 1)) ** 0.6);
    const large = Math.max(1, Number(this.#state.nodes ?? 1) ** 0.6 / 1.25);
    if (band.unit || band.kind === "unit") return NODE * 1.35 * size * Math.min(1.6, large);
    return this.#isJoint(node) ? NODE * 0.5 * size : NODE * size * Math.min(1.6, large);
  }

  #trace(context, { k, x: cx, y: cy }, line) {
    const graph = this.#graph;
    const a = graph.start[line];
    const b = graph.end[line];
    const x0 = (graph.x[a] + this.#half(a) - cx) * k;
    const x1 = (graph.x[b] - this.#half(b) - cx) * k;
    const y0 = (graph.y[a] - cy) * k;
    const y1 = (graph.y[b] - cy) * k;
    const middle = (x0 + x1) / 2;
    context.moveTo(x0, y0);
    context.bezierCurveTo(middle, y0, middle, y1, x1, y1);
  }

  #drawWires(context, view, wires, colour) {
    context.strokeStyle = colour;
    context.lineWidth = Math.max(0.7, Math.min(2, view.k * 1.4));
    context.beginPath();
    for (const wire of wires) this.#trace(context, view, wire);
    context.stroke();
  }

  #drawBands(context, { k, x: cx, y: cy }) {
    const { bands } = this.#graph.data;
    const colours = this.#colours;
    for (const band of bands) {
      if (band.kind === "sum" || band.kind === "product" || band.kind === "mix") continue;
      const wide = ROW * (this.#pictureKind() === "both" ? 1.9 : 1.05) * k;
      const x = (band.x - cx) * k;
      const top = (band.top - ROW * 0.62 - cy) * k;
      const bottom = (band.bottom + ROW * 0.62 - cy) * k;
      context.fillStyle = colours.sunken;
      context.beginPath();
      context.roundRect(x - wide / 2, top, wide, bottom - top, Math.min(8, 5 * k));
      context.fill();
    }
    for (const join of this.#concatenations()) {
      const x = (join.x + ROW * (this.#pictureKind() === "both" ? 1.15 : 0.72) - cx) * k;
      const top = (join.top - ROW * 0.5 - cy) * k;
      const bottom = (join.bottom + ROW * 0.5 - cy) * k;
      const tick = Math.max(3, 5 * k);
      context.strokeStyle = colours["ink-3"];
      context.lineWidth = Math.max(1, k);
      context.beginPath();
      context.moveTo(x - tick, top);
      context.lineTo(x, top);
      context.lineTo(x, bottom);
      context.lineTo(x - tick, bottom);
      context.stroke();
    }
  }

  /** Bands of one column whose channels lie side by side in the input of a later one. */
  #concatenations() {
    const { bands } = this.#graph.data;
    const byName = new Map(bands.map((band) => [band.name, band]));
    const found = new Map();
    for (const band of bands) {
      const parts = band.concatenated.map((name) => byName.get(name)).filter(Boolean);
      if (parts.length < 2 || parts.some((part) => part.x !== parts[0].x)) continue;
      found.set(band.concatenated.join(), {
        x: parts[0].x,
        top: Math.min(...parts.map((part) => part.top)),
        bottom: Math.max(...parts.map((part) => part.bottom)),
      });
    }
    return found.values();
  }

  #drawNodes(context, view, [left, right, top, bottom]) {
    const graph = this.#graph;
    for (let node = 0; node < graph.nodeCount; node += 1) {
      const on = this.#nodeOn(node);
      const x = graph.x[node];
      const y = graph.y[node];
      if (!on || x < left - ROW || x > right + ROW || y < top - ROW || y > bottom + ROW) continue;
      context.globalAlpha = on === 1 ? 0.13 : 1;
      this.#drawNode(context, view, node);
    }
    context.globalAlpha = 1;
  }

  #drawNode(context, { k, x: cx, y: cy }, node) {
    const graph = this.#graph;
    const colours = this.#colours;
    const band = graph.bandOf(node);
    const size = Math.max(1, Math.round(this.#nodeSize(node) * k));
    // On whole pixels, or pictures and frames blur.
    const snap = (value) => Math.round(value - size / 2) + size / 2;
    const x = snap((graph.x[node] - cx) * k);
    const y = snap((graph.y[node] - cy) * k);
    if (this.#isJoint(node)) {
      this.#drawJoint(context, band.kind, x, y, size);
      return;
    }
    if (band.kind === "image") {
      context.fillStyle = ["#d24b40", "#3f9a55", "#3f6fd1"][graph.data.nodes.channel[node] % 3];
      context.fillRect(x - size / 2, y - size / 2, size, size);
      if (size > 16) {
        context.fillStyle = "#fff";
        context.font = `600 ${Math.min(15, size * 0.5)}px ${colours.font}`;
        context.textAlign = "center";
        context.textBaseline = "middle";
        context.fillText("RGB"[graph.data.nodes.channel[node] % 3], x, y + 0.5);
      }
      return;
    }
    const kind = this.#pictureKind();
    const half = kind === "both" ? size : size / 2;
    context.fillStyle = colours["line-strong"];
    context.fillRect(x - half, y - size / 2, 2 * half, size);
    if (size > 4) {
      if (kind === "both") {
        this.#drawPicture(context, node, "crops", x - half, y - size / 2, size);
        this.#drawPicture(context, node, "features", x, y - size / 2, size);
      } else if (kind !== "none") {
        this.#drawPicture(context, node, kind, x - half, y - size / 2, size);
      }
    }
    if (size > 9) {
      context.strokeStyle = band.unit ? colours.ink : colours["ink-3"];
      context.lineWidth = band.unit ? 2 : 1;
      context.strokeRect(x - half + 0.5, y - size / 2 + 0.5, 2 * half - 1, size - 1);
    }
    if (size >= 34 && kind !== "none") this.#drawChip(context, String(graph.data.nodes.channel[node]), x - half, y + size / 2);
    else if (size >= 16 && kind === "none") {
      context.fillStyle = colours.ink;
      context.font = `${Math.min(13, size * 0.42)}px ${colours.font}`;
      context.textAlign = "center";
      context.textBaseline = "middle";
      context.fillText(String(graph.data.nodes.channel[node]), x, y);
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
    context.fillStyle = this.#colours.surface;
    context.strokeStyle = this.#colours["ink-2"];
    context.lineWidth = Math.max(0.7, Math.min(1.6, size / 9));
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
    if (size < 5) {
      context.fillStyle = this.#colours["ink-3"];
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

  /** Names above the bands; slanted where columns are too close for them. */
  #drawLabels(context, view) {
    const { bands } = this.#graph.data;
    const named = bands.filter((band) => !this.#joins(band));
    const columns = [...new Set(named.map((band) => band.x))].sort((a, b) => a - b);
    let apart = Infinity;
    for (let i = 1; i < columns.length; i += 1) apart = Math.min(apart, columns[i] - columns[i - 1]);
    const size = Math.round(Math.max(10, Math.min(13, 11 * view.k + 4)));
    context.font = `${size}px ${this.#colours.font}`;
    context.textBaseline = "alphabetic";
    context.lineJoin = "round";
    const widest = Math.max(0, ...named.map((band) => context.measureText(shortName(band)).width));
    const slanted = widest > apart * view.k - 6;
    context.textAlign = slanted ? "left" : "center";
    for (const band of named) {
      const text = shortName(band);
      const [x, top] = this.#toScreen(band.x, band.top - ROW * 0.62);
      const [, bottom] = this.#toScreen(band.x, band.bottom + ROW * 0.62);
      const width = context.measureText(text).width;
      if (bottom < 0 || top > this.#size.height || x < -width || x > this.#size.width + width) continue;
      // The name stays in sight while its band does.
      const y = Math.round(Math.max(top - 5, Math.min((slanted ? width * 0.7 : 0) + size + 3, bottom - 4)));
      const reach = slanted ? [0, width * 0.75] : [width / 2, width / 2];
      const middle = Math.round(Math.max(reach[0] + 4, Math.min(this.#size.width - reach[1] - 4, x)));
      if (!slanted && Math.abs(middle - x) > width) continue;
      context.save();
      context.translate(middle, y);
      if (slanted) context.rotate(-Math.PI / 4);
      context.strokeStyle = this.#colours.surface;
      context.lineWidth = 4;
      context.strokeText(text, 0, 0);
      context.fillStyle = band.unit ? this.#colours.ink : this.#colours["ink-2"];
      context.fillText(text, 0, 0);
      context.restore();
    }
  }

  #joins(band) {
    return band.kind === "sum" || band.kind === "product" || band.kind === "mix";
  }

  /** Small pictures of weights at the middle of lines, the strongest first, where there is room. */
  #drawWeights(context, view, edges, [left, right, top, bottom], always = false) {
    const graph = this.#graph;
    const wanted = always || this.#isolated !== null;
    const cell = Math.max(wanted ? 3 : 0, Math.min(9, Math.round(3.4 * view.k)));
    const enough = always ? 120 : wanted ? 400 : 160;
    if (cell < 3 || edges.length > enough * 8) return;
    const taken = [];
    const first = [...edges].sort((a, b) => graph.strength[b] - graph.strength[a]).slice(0, enough);
    for (const edge of first) {
      const kernel = graph.bandOf(graph.end[edge]).kernel;
      if (!kernel || graph.weightStart[edge] < 0) continue;
      if (!wanted && cell < 5 && kernel[0] * kernel[1] === 1) continue;
      const wide = kernel[1] * cell + 2;
      const high = kernel[0] * cell + 2;
      const a = graph.start[edge];
      const b = graph.end[edge];
      const x0 = graph.x[a] + this.#half(a);
      const x1 = graph.x[b] - this.#half(b);
      for (const u of [0.5, 0.38, 0.62, 0.27, 0.73, 0.18, 0.82]) {
        const px = x0 + (x1 - x0) * u;
        const py = graph.y[a] + (graph.y[b] - graph.y[a]) * PROFILE[Math.round(u * (CURVE - 1))];
        if (px < left || px > right || py < top || py > bottom) continue;
        const x = (px - view.x) * view.k - wide / 2;
        const y = (py - view.y) * view.k - high / 2;
        const clear = taken.every(
          ([tx, ty, tw, th]) => x > tx + tw + 2 || tx > x + wide + 2 || y > ty + th + 2 || ty > y + high + 2,
        );
        if (!clear || wide + 8 > (x1 - x0) * view.k) continue;
        taken.push([x, y, wide, high]);
        this.#drawKernel(context, edge, x, y, cell);
        break;
      }
    }
  }

  #drawKernel(context, edge, x, y, cell) {
    const graph = this.#graph;
    const [high, wide] = graph.bandOf(graph.end[edge]).kernel;
    context.fillStyle = this.#colours["ink-3"];
    context.fillRect(x, y, wide * cell + 2, high * cell + 2);
    const from = graph.weightStart[edge];
    for (let i = 0; i < high * wide; i += 1) {
      context.fillStyle = this.#weightColour(graph.weightBytes[from + i] / 127);
      context.fillRect(x + 1 + (i % wide) * cell, y + 1 + Math.floor(i / wide) * cell, cell, cell);
    }
  }

  #weightColour(value) {
    const parse = (text) => text.match(/[\d.]+/g).slice(0, 3).map(Number);
    this.#colours.ends ??= ["inhibit", "zero", "excite"].map((name) => parse(toRgb(this.#colours[name])));
    const [low, zero, high] = this.#colours.ends;
    const end = value < 0 ? low : high;
    const part = Math.abs(value);
    return `rgb(${zero.map((c, i) => Math.round(c + (end[i] - c) * part)).join(" ")})`;
  }

  /** The drawn layer, moved to where the view is now. */
  #show() {
    const { width, height, ratio } = this.#size;
    const context = this.#dom.edges.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.#dom.edges.width, this.#dom.edges.height);
    // A layer that is still being drawn is shown as far as it is, unless there is an older one.
    const layer = this.#base ?? this.#building;
    if (layer) {
      const scale = this.#view.k / layer.view.k;
      const place = ["x", "y"].map((axis, i) => {
        const half = ([width, height][i] / 2) * ratio;
        const moved = (layer.view[axis] - this.#view[axis]) * this.#view.k * ratio;
        return half + moved - (half + layer.pad[i]) * scale;
      });
      context.drawImage(layer.canvas, ...place, layer.canvas.width * scale, layer.canvas.height * scale);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.#drawLabels(context, this.#view);
  }

  /** What the pointer or the keyboard is on, with its own lines. */
  #drawTop() {
    const { width, height, ratio } = this.#size;
    const graph = this.#graph;
    const context = this.#dom.top.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.#dom.top.width, this.#dom.top.height);
    const item = this.#hover ?? this.#focus;
    this.#dom.edges.classList.toggle("ca-dim", Boolean(this.#hover));
    if (!item) return;
    context.setTransform(ratio, 0, 0, ratio, (width / 2) * ratio, (height / 2) * ratio);
    const view = this.#view;
    const half = [width / 2 / view.k, height / 2 / view.k];
    const seen = [view.x - half[0], view.x + half[0], view.y - half[1], view.y + half[1]];
    if (this.#hover) {
      const { edges, wires, nodes } = this.#around(item);
      this.#drawWires(context, view, wires, this.#colours["ink-3"]);
      const looks = this.#byLook(edges);
      for (const [key, some] of looks) this.#strokeEdges(context, view, some, key, edges.length / 4);
      for (const node of nodes) this.#drawNode(context, view, node);
      this.#drawWeights(context, view, edges, seen, true);
    }
    const node = item.node ?? null;
    context.strokeStyle = this.#colours.accent;
    context.lineWidth = 2.5;
    if (node !== null) {
      const size = Math.max(6, this.#nodeSize(node) * view.k) + 5;
      const wide = Math.max(6, 2 * this.#half(node) * view.k) + 5;
      const x = (graph.x[node] - view.x) * view.k;
      const y = (graph.y[node] - view.y) * view.k;
      context.beginPath();
      context.roundRect(x - wide / 2, y - size / 2, wide, size, 4);
      context.stroke();
    } else if (!this.#hover) {
      context.beginPath();
      this.#trace(context, view, item.edge);
      context.stroke();
    }
  }

  /** An item's own lines and nodes, over joints and bends up to the next channels. */
  #around(item) {
    const graph = this.#graph;
    const edges = new Set();
    const wires = new Set();
    const nodes = new Set();
    const walk = (point, list, ends) => {
      if (point < graph.nodeCount) nodes.add(point);
      for (const line of list(point)) {
        if (!this.#drawn(line)) continue;
        if (line < graph.edgeCount) {
          edges.add(line);
          if (list === graph.out) nodes.add(ends[line]);
          else back(graph.start[line]);
        } else if (!wires.has(line)) {
          wires.add(line);
          walk(ends[line], list, ends);
        }
      }
    };
    const back = (point) => {
      if (point < graph.nodeCount) {
        nodes.add(point);
        if (!this.#isJoint(point)) return;
      }
      for (const line of graph.into(point)) {
        if (line >= graph.edgeCount && this.#drawn(line) && !wires.has(line)) {
          wires.add(line);
          back(graph.start[line]);
        }
      }
    };
    if (item.node !== undefined) {
      walk(item.node, graph.out, graph.end);
      walk(item.node, graph.into, graph.start);
    } else {
      edges.add(item.edge);
      nodes.add(graph.end[item.edge]);
      back(graph.start[item.edge]);
    }
    return { edges: [...edges], wires: [...wires], nodes };
  }

  // ---------------------------------------------------------------- pictures

  #drawPicture(context, node, kind, x, y, size) {
    const thumb = this.#thumb(node, kind, size);
    if (thumb) context.drawImage(thumb[0], ...thumb[1], x, y, size, size);
  }

  /** A node's picture as [image, source box], small and ready where it is drawn small. */
  #thumb(node, kind, size) {
    const feature = kind === "features" ? this.#feature(node) : null;
    const source = feature ?? this.#crop(node, 0);
    if (!source) return null;
    const cell = 64;
    if (size * this.#size.ratio > cell * 1.1) return source;
    this.#thumbs ??= new Map();
    const key = `${feature ? "feature" : "crop"} ${node}`;
    if (!this.#thumbs.has(key)) {
      const count = this.#thumbs.size;
      const page = Math.floor(count / 256);
      this.#thumbs.pages ??= [];
      if (!this.#thumbs.pages[page]) {
        const canvas = document.createElement("canvas");
        canvas.width = 16 * cell;
        canvas.height = 16 * cell;
        this.#thumbs.pages[page] = canvas;
      }
      const at = [(count % 16) * cell, (Math.floor(count / 16) % 16) * cell];
      const context = this.#thumbs.pages[page].getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(source[0], ...source[1], ...at, cell, cell);
      this.#thumbs.set(key, [this.#thumbs.pages[page], [...at, cell, cell]]);
    }
    return this.#thumbs.get(key);
  }

  #feature(node) {
    if (!this.#graph.data.nodes.feature[node] || !this.#options.featureUrl) return null;
    const image = this.#load(`feature ${node}`, () => this.#options.featureUrl(this.#graph.describe(node)));
    return image && [image, [0, 0, image.naturalWidth, image.naturalHeight]];
  }

  /** The n-th best crop of a node, square, at least a twelfth of the picture's width. */
  #crop(node, place) {
    const crop = this.#graph.data.nodes.crops[node][place];
    if (!crop || !this.#options.pictureUrl) return null;
    const image = this.#load(`picture ${crop[0]}`, () => this.#options.pictureUrl(crop[0]));
    return image && [image, this.#cropBox(crop)];
  }

  #cropBox([, top, left, bottom, right]) {
    const { input_width: width, input_height: height } = this.#graph.data;
    const least = Math.min(width, height) / 12;
    const side = Math.min(
      Math.min(width, height),
      Math.max(least, Math.max(bottom - top, right - left) * 1.08),
    );
    const x = Math.min(width - side, Math.max(0, (left + right - side) / 2));
    const y = Math.min(height - side, Math.max(0, (top + bottom - side) / 2));
    return [x, y, side, side];
  }

  #load(key, address) {
    if (!this.#pictures.has(key)) {
      const url = address();
      const image = new Image();
      this.#pictures.set(key, { image, ready: false });
      if (url) {
        image.decoding = "async";
        image.onload = () => {
          this.#pictures.get(key).ready = true;
          this.#redraw();
        };
        image.src = url;
      }
    }
    const found = this.#pictures.get(key);
    return found.ready ? found.image : null;
  }

  // ---------------------------------------------------------------- pointer and keys

  #listen() {
    const { stage } = this.#dom;
    const on = (target, type, action, more = {}) =>
      target.addEventListener(type, action, { signal: this.#listening.signal, ...more });
    on(stage, "pointerdown", (event) => this.#down(event));
    on(stage, "pointermove", (event) => this.#pointer(event));
    on(stage, "pointerup", (event) => this.#up(event));
    on(stage, "pointercancel", (event) => this.#pointers.delete(event.pointerId));
    on(stage, "pointerleave", () => this.#setHover(null));
    on(stage, "wheel", (event) => this.#wheel(event), { passive: false });
    on(stage, "keydown", (event) => this.#key(event));
    on(stage, "blur", () => this.#setFocus(null));
    on(stage, "dblclick", (event) => {
      const [x, y] = this.#at(event);
      if (!this.#find(x, y)) this.#zoomBy(1.8, x, y);
    });
    const sized = new ResizeObserver(() => this.#resize());
    sized.observe(stage);
    const themed = new MutationObserver(() => this.refreshTheme());
    themed.observe(document.documentElement, { attributeFilter: ["data-theme", "class"] });
    this.#observers.push(sized, themed);
    const dark = globalThis.matchMedia("(prefers-color-scheme: dark)");
    on(dark, "change", () => this.refreshTheme());
  }

  #at(event) {
    const box = this.#dom.stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #down(event) {
    if (event.button || event.target.closest(".ca-chosen")) return;
    const [x, y] = this.#at(event);
    this.#pointers.set(event.pointerId, { x, y, far: 0 });
    this.#dom.stage.setPointerCapture(event.pointerId);
  }

  #pointer(event) {
    const [x, y] = this.#at(event);
    const held = this.#pointers.get(event.pointerId);
    if (!held) {
      if (event.pointerType !== "touch") this.#setHover(this.#find(x, y), x, y);
      return;
    }
    const others = [...this.#pointers.entries()].filter(([id]) => id !== event.pointerId);
    if (others.length) {
      const other = others[0][1];
      const before = Math.hypot(held.x - other.x, held.y - other.y);
      const after = Math.hypot(x - other.x, y - other.y);
      held.far += Math.hypot(x - held.x, y - held.y);
      this.#zoomBy(after / Math.max(1, before), (x + other.x) / 2, (y + other.y) / 2);
    } else {
      held.far += Math.hypot(x - held.x, y - held.y);
      if (held.far > 3) {
        this.#setHover(null);
        const { k } = this.#view;
        this.#setView(k, this.#view.x - (x - held.x) / k, this.#view.y - (y - held.y) / k);
      }
    }
    held.x = x;
    held.y = y;
  }

  #up(event) {
    const held = this.#pointers.get(event.pointerId);
    this.#pointers.delete(event.pointerId);
    if (!held || held.far > 3) return;
    const [x, y] = this.#at(event);
    const item = this.#find(x, y);
    if (event.pointerType === "touch") this.#setHover(item, x, y);
    if (item) this.#toggle(item);
    else if (this.#state.selection) this.#select(null);
  }

  #toggle(item) {
    const name =
      item.node !== undefined ? this.#graph.nodeName(item.node) : this.#graph.edgeName(item.edge);
    this.#select(this.#state.selection === name ? null : name);
  }

  #wheel(event) {
    const stays = this.#options.wheel === "focus" && !event.ctrlKey && !event.metaKey;
    if (stays && document.activeElement !== this.#dom.stage) return;
    event.preventDefault();
    const [x, y] = this.#at(event);
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.#zoomBy(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0016)), x, y);
  }

  /** The node at a place of the stage, or else the nearest kernel within a few pixels. */
  #find(sx, sy) {
    const graph = this.#graph;
    const [x, y] = this.#fromScreen(sx, sy);
    const { k } = this.#view;
    const slack = 3 / k;
    for (let node = 0; node < graph.nodeCount; node += 1) {
      if (Math.abs(graph.x[node] - x) > this.#half(node) + slack) continue;
      if (Math.abs(graph.y[node] - y) > this.#nodeSize(node) / 2 + slack) continue;
      if (this.#nodeOn(node)) return { node };
    }
    let best = null;
    let nearest = 5 / k;
    for (let edge = 0; edge < graph.edgeCount; edge += 1) {
      if (!this.#drawn(edge)) continue;
      const a = graph.start[edge];
      const b = graph.end[edge];
      const x0 = graph.x[a];
      const x1 = graph.x[b];
      if (x < x0 || x > x1) continue;
      const left = x0 + this.#half(a);
      const part = (x - left) / Math.max(1e-6, x1 - this.#half(b) - left);
      const place = Math.round(Math.min(1, Math.max(0, part)) * (CURVE - 1));
      const rise = graph.y[b] - graph.y[a];
      const at = graph.y[a] + rise * PROFILE[place];
      const off = Math.abs(at - y);
      if (off > nearest * 12) continue;
      const next = Math.min(CURVE - 1, place + 1);
      const slope = ((PROFILE[next] - PROFILE[Math.max(0, next - 2)]) * rise * (CURVE - 1)) / 2 /
        Math.max(1e-6, x1 - x0);
      const distance = off / Math.hypot(1, slope);
      if (distance < nearest) {
        nearest = distance;
        best = { edge };
      }
    }
    return best;
  }

  #same(a, b) {
    return a === b || (a && b && a.node === b.node && a.edge === b.edge);
  }

  #setHover(item, x = 0, y = 0) {
    if (this.#same(this.#hover, item)) {
      if (item) this.#placeCard(x, y);
      return;
    }
    this.#hover = item;
    this.#dom.stage.classList.toggle("ca-on", Boolean(item));
    this.#card(item);
    if (item) this.#placeCard(x, y);
    this.#request();
  }

  #setFocus(item) {
    this.#focus = item;
    const { stage, current } = this.#dom;
    if (!item) {
      stage.removeAttribute("aria-activedescendant");
      this.#card(null);
      this.#request();
      return;
    }
    current.setAttribute("aria-label", this.#label(item));
    stage.setAttribute("aria-activedescendant", current.id);
    this.#dom.live.textContent = this.#label(item);
    const graph = this.#graph;
    const point = item.node ?? graph.end[item.edge];
    const [sx, sy] = this.#toScreen(graph.x[point], graph.y[point]);
    const { width, height } = this.#size;
    if (sx < 20 || sy < 20 || sx > width - 20 || sy > height - 20) {
      this.#setView(this.#view.k, graph.x[point], graph.y[point]);
    }
    this.#card(item);
    const start = item.edge === undefined ? point : graph.start[item.edge];
    const [x, y] = this.#toScreen(
      (graph.x[point] + graph.x[start]) / 2,
      (graph.y[point] + graph.y[start]) / 2,
    );
    if (item.edge === undefined) this.#placeCard(x + 14, y);
    else this.#placeCard(x - 60, y, Math.abs(sy - y) + 24);
    this.#request();
  }

  #key(event) {
    const actions = {
      "+": () => this.#zoomBy(1.4),
      "=": () => this.#zoomBy(1.4),
      "-": () => this.#zoomBy(1 / 1.4),
      0: () => this.fit(),
      Escape: () => {
        this.#setHover(null);
        this.#setFocus(null);
        if (this.#state.selection) this.#select(null);
      },
      Enter: () => this.#focus && this.#toggle(this.#focus),
      " ": () => this.#focus && this.#toggle(this.#focus),
      ArrowUp: () => this.#step(-1),
      ArrowDown: () => this.#step(1),
      ArrowLeft: () => this.#follow("into"),
      ArrowRight: () => this.#follow("out"),
      Home: () => this.#setFocus(this.#firstNode()),
      End: () => this.#setFocus(this.#unitNode()),
      ",": () => this.#nextKernel(-1),
      ".": () => this.#nextKernel(1),
    };
    const action = actions[event.key];
    if (event.target !== this.#dom.stage && event.key !== "Escape") return;
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#hover = null;
    action();
  }

  #nodesOn() {
    return [...Array(this.#graph.nodeCount).keys()].filter((node) => this.#nodeOn(node) === 2);
  }

  #firstNode() {
    const nodes = this.#nodesOn();
    if (!nodes.length) return null;
    const { x, y } = this.#graph;
    return { node: nodes.reduce((a, b) => (x[b] < x[a] || (x[b] === x[a] && y[b] < y[a]) ? b : a)) };
  }

  #unitNode() {
    const nodes = this.#nodesOn();
    if (!nodes.length) return null;
    const { x } = this.#graph;
    return { node: nodes.reduce((a, b) => (x[b] > x[a] ? b : a)) };
  }

  /** The focused node, or where to begin: at the unit. */
  #from() {
    if (!this.#focus) return null;
    return this.#focus.node ?? this.#graph.end[this.#focus.edge];
  }

  #step(way) {
    const from = this.#from();
    if (from === null) {
      this.#setFocus(this.#unitNode());
      return;
    }
    const { x, y } = this.#graph;
    const column = this.#nodesOn().filter((node) => x[node] === x[from]);
    column.sort((a, b) => y[a] - y[b]);
    const place = column.indexOf(from) + way;
    if (column[place] !== undefined) this.#setFocus({ node: column[place] });
  }

  #follow(way) {
    const from = this.#from();
    if (from === null) {
      this.#setFocus(this.#unitNode());
      return;
    }
    const graph = this.#graph;
    let point = from;
    do {
      let best = -1;
      let most = -1;
      for (const line of graph[way](point)) {
        const strength = line < graph.edgeCount ? graph.strength[line] : 0;
        if (this.#drawn(line) && strength > most) {
          best = line;
          most = strength;
        }
      }
      if (best < 0) return;
      point = way === "out" ? graph.end[best] : graph.start[best];
    } while (point >= graph.nodeCount);
    this.#setFocus({ node: point });
  }

  #nextKernel(way) {
    const from = this.#from();
    if (from === null) return;
    const graph = this.#graph;
    const kernels = [...graph.into(from), ...graph.out(from)].filter(
      (line) => line < graph.edgeCount && this.#drawn(line) && graph.end[line] === from,
    );
    kernels.sort((a, b) => graph.strength[b] - graph.strength[a]);
    if (!kernels.length) return;
    const place = this.#focus.edge === undefined ? -1 : kernels.indexOf(this.#focus.edge);
    const next = place < 0 && way < 0 ? kernels.length - 1 : place + way;
    this.#setFocus({ edge: kernels[(next + kernels.length) % kernels.length] });
  }

  // ---------------------------------------------------------------- words

  #label(item) {
    if (!item) return "";
    const graph = this.#graph;
    const { nodes, edges } = graph.data;
    if (item.node !== undefined) {
      const { title } = this.#titles(item);
      const kind = graph.bandOf(item.node).kind;
      const share = kind === "channel" || kind === "image"
        ? `, score ${digits(nodes.score[item.node])}, ${percent(nodes.share[item.node])} of the circuit`
        : "";
      return `${title}${share}`;
    }
    const share = `score ${digits(edges.score[item.edge])}, ${percent(edges.share[item.edge])} of the circuit`;
    return `${this.#titles(item).title}, ${share}, ${this.#effect(edges.contribution[item.edge])}`;
  }

  #titles(item) {
    const graph = this.#graph;
    const { data } = graph;
    if (item.node !== undefined) {
      const band = graph.bandOf(item.node);
      const channel = data.nodes.channel[item.node];
      const names = {
        image: `image, ${["red", "green", "blue"][channel] ?? channel}`,
        sum: `sum of channel ${channel}`,
        product: `gate of channel ${channel}`,
        mix: "channels are mixed here",
        unit: `unit ${band.name}`,
      };
      const title = names[band.kind] ?? `${band.name}, channel ${channel}`;
      return { title, sub: band.unit ? "the unit" : "" };
    }
    const end = graph.end[item.edge];
    const band = graph.bandOf(end);
    const source = data.edges.source[item.edge];
    const from = this.#titles({ node: source }).title;
    return {
      title: `${band.name}, kernel ${data.nodes.channel[end]}, ${data.edges.channel[item.edge]}`,
      sub: `from ${from}`,
    };
  }

  #effect(contribution) {
    if (contribution === null) return "sign unknown";
    return contribution > 0 ? "excitation" : contribution < 0 ? "inhibition" : "no effect";
  }

  // ---------------------------------------------------------------- card

  #card(item) {
    const { card } = this.#dom;
    card.hidden = !item;
    card.replaceChildren();
    if (!item) return;
    const { data } = this.#graph;
    const { title, sub } = this.#titles(item);
    card.append(make("strong", {}, title));
    if (sub) card.append(make("span", { class: "ca-sub" }, sub));
    const facts = make("dl", {});
    const fact = (name, value, className = "") =>
      facts.append(make("dt", {}, name), make("dd", { class: className, "data-fact": name }, value));
    const effect = (value) => (value > 0 ? "ca-c-excite" : value < 0 ? "ca-c-inhibit" : "");
    if (item.node !== undefined) {
      const kind = this.#graph.bandOf(item.node).kind;
      if (kind === "channel" || kind === "image") {
        fact("score", digits(data.nodes.score[item.node]));
        fact("share", percent(data.nodes.share[item.node]));
        const given = data.nodes.contribution[item.node];
        fact("contribution", digits(given), effect(given));
      }
      const kernels = (list) => list(item.node).filter(
        (line) => line < this.#graph.edgeCount && this.#visible[line]).length;
      fact("kernels in", number.format(kernels(this.#graph.into)));
      fact("kernels out", number.format(this.#leaving(item.node)));
      const pictures = this.#cardPictures(item.node);
      if (pictures) card.append(pictures);
    } else {
      const e = item.edge;
      fact("score", digits(data.edges.score[e]));
      fact("share", percent(data.edges.share[e]));
      fact("contribution", digits(data.edges.contribution[e]), effect(data.edges.contribution[e]));
      fact("effect", this.#effect(data.edges.contribution[e]), effect(data.edges.contribution[e]));
      if (data.sides.length) {
        fact("circuit", ["both", "only left", "only right"][data.edges.side[e]]);
        if (data.edges.other[e] !== null) fact("score, right", digits(data.edges.other[e]));
      }
      if (data.weights.scale[e] !== null) fact("largest weight", `±${digits(data.weights.scale[e])}`);
      const weights = this.#cardWeights(e);
      if (weights) card.append(weights);
    }
    card.append(facts);
  }

  /** Kernels that read a node, over its bends and the joints that it feeds. */
  #leaving(node) {
    return this.#around({ node }).edges.filter(
      (edge) => this.#graph.end[edge] !== node).length;
  }

  #cardPictures(node) {
    const strip = make("div", { class: "ca-strip" });
    const side = 56;
    const add = ([image, box], label) => {
      const canvas = make("canvas", { width: side * 2, height: side * 2, role: "img", "aria-label": label });
      canvas.getContext("2d").drawImage(image, ...box, 0, 0, side * 2, side * 2);
      strip.append(canvas);
    };
    const feature = this.#feature(node);
    if (feature) add(feature, "feature image");
    const names = new Map(this.#graph.data.images);
    this.#graph.data.nodes.crops[node].forEach((crop, place) => {
      const found = this.#crop(node, place);
      if (found) add(found, `crop of ${names.get(crop[0])}`);
    });
    return strip.childElementCount ? strip : null;
  }

  #cardWeights(edge) {
    const graph = this.#graph;
    const kernel = graph.bandOf(graph.end[edge]).kernel;
    if (!kernel || graph.weightStart[edge] < 0) return null;
    const cell = Math.max(4, Math.floor(60 / Math.max(...kernel)));
    const canvas = make("canvas", {
      class: "ca-kernel",
      width: kernel[1] * cell + 2,
      height: kernel[0] * cell + 2,
      role: "img",
      "aria-label": `weights, ${kernel[0]} by ${kernel[1]}`,
    });
    this.#drawKernel(canvas.getContext("2d"), edge, 0, 0, cell);
    return canvas;
  }

  /** Beside a place of the stage, or `below` it where there is room. */
  #placeCard(x, y, below = 0) {
    const { card } = this.#dom;
    const { width, height } = this.#size;
    const box = card.getBoundingClientRect();
    const right = x + 16 + box.width < width;
    const left = right ? x + 16 : Math.max(4, x - 16 - box.width);
    const wanted = below && y + below + box.height < height ? y + below : y - box.height / 3;
    const top = Math.min(Math.max(4, wanted), Math.max(4, height - box.height - 4));
    card.style.setProperty("left", `${Math.round(left)}px`);
    card.style.setProperty("top", `${Math.round(top)}px`);
  }

  // ---------------------------------------------------------------- table

  #toggleTable() {
    const { details } = this.#dom;
    if (details.open) this.#fillTable(200);
    else this.#dom.table.replaceChildren();
    if (Boolean(Number(this.#state.table ?? 0)) !== details.open) {
      this.setState({ table: details.open ? 1 : null });
    }
  }

  #fillTable(most) {
    const graph = this.#graph;
    const { nodes, edges } = graph.data;
    const kernels = [...Array(graph.edgeCount).keys()].filter((edge) => this.#drawn(edge));
    kernels.sort((a, b) => (edges.score[b] ?? 0) - (edges.score[a] ?? 0));
    const channels = this.#nodesOn().filter((node) => !this.#isJoint(node));
    channels.sort((a, b) => nodes.share[b] - nodes.share[a]);
    const table = (caption, heads, rows) => {
      const cells = (row, tag) => row.map((cell) => make(tag, tag === "th" ? { scope: "col" } : {}, String(cell)));
      return make(
        "table",
        {},
        make("caption", {}, caption),
        make("thead", {}, make("tr", {}, ...cells(heads, "th"))),
        make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells(row, "td")))),
      );
    };
    const more = Math.max(kernels.length, channels.length) > most
      ? make("button", { type: "button", onclick: () => this.#fillTable(most * 5) }, "Show more rows")
      : null;
    this.#dom.table.replaceChildren(
      table(
        `Channels, by share: ${Math.min(most, channels.length)} of ${channels.length}`,
        ["Convolution", "Channel", "Score", "Share", "Contribution"],
        channels.slice(0, most).map((node) => [
          graph.bandOf(node).name,
          nodes.channel[node],
          digits(nodes.score[node]),
          percent(nodes.share[node]),
          digits(nodes.contribution[node]),
        ]),
      ),
      table(
        `Kernels, by score: ${Math.min(most, kernels.length)} of ${kernels.length}`,
        ["Convolution", "Out", "In", "Score", "Share", "Contribution", "Effect"],
        kernels.slice(0, most).map((edge) => [
          graph.bandOf(graph.end[edge]).name,
          nodes.channel[graph.end[edge]],
          edges.channel[edge],
          digits(edges.score[edge]),
          percent(edges.share[edge]),
          digits(edges.contribution[edge]),
          this.#effect(edges.contribution[edge]),
        ]),
      ),
      ...(more ? [more] : []),
    );
  }
}

/** A colour in numbers, whichever way the browser wrote it. */
function toRgb(colour) {
  const canvas = document.createElement("canvas");
  canvas.width = 1;
  canvas.height = 1;
  const context = canvas.getContext("2d");
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return `rgb(${[...context.getImageData(0, 0, 1, 1).data].slice(0, 3).join(" ")})`;
}

/** A band's name without what all names of a network share anyway. */
function shortName(band) {
  return band.name.replace(/^(features|layers|model|module|blocks)\.(?!\d+$)/, "");
}
