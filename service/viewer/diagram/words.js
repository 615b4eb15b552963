/** Says what items are called, and writes their numbers. */

/** @import { Graph, Item } from "./graph.js" */

const WHOLE = new Intl.NumberFormat("en");

/** Writes a whole number: 12345 -> "12,345". */
export const whole = (value) => WHOLE.format(value);

/** Writes a share: 0.1234 -> "12.3 %"; small ones keep two digits. */
export const percent = (share) =>
  share >= 0.1 ? `${(100 * share).toFixed(1)} %` : `${Number((100 * share).toPrecision(2))} %`;

/** Writes four digits; null, which is not known, in words. */
export const digits = (value) =>
  value === null || value === undefined ? "unknown" : String(Number(value.toPrecision(4)));

/** Says a contribution in a word. */
export function effect(contribution) {
  if (contribution === null) return "sign unknown";
  return contribution > 0 ? "excitation" : contribution < 0 ? "inhibition" : "no effect";
}

/**
 * Names a node or a kernel.
 *
 * @param {Graph} graph
 * @param {Item} item
 */
export function title(graph, { node, edge }) {
  const { data } = graph;
  if (node === undefined) {
    const end = graph.end[edge];
    const channels = `${data.nodes.channel[end]}, ${data.edges.channel[edge]}`;
    return `${graph.bandOf(end).name}, kernel ${channels}`;
  }
  const band = graph.bandOf(node);
  const channel = data.nodes.channel[node];
  const names = {
    image: `image, ${["red", "green", "blue"][channel] ?? channel}`,
    sum: `sum of channel ${channel}`,
    product: `gate of channel ${channel}`,
    mix: "channels are mixed here",
    unit: `unit ${band.name}`,
  };
  return names[band.kind] ?? `${band.name}, channel ${channel}`;
}

/**
 * Says what stands under a title, or "".
 *
 * @param {Graph} graph
 * @param {Item} item
 */
export function subtitle(graph, { node, edge }) {
  if (node !== undefined) return graph.bandOf(node).unit ? "the unit" : "";
  return `from ${title(graph, { node: graph.data.edges.source[edge] })}`;
}

/** Says an item with its numbers in one sentence, for those who listen. */
export function label(graph, item) {
  const { nodes, edges } = graph.data;
  const told = (table, at) =>
    `score ${digits(table.score[at])}, ${percent(table.share[at])} of the circuit`;
  if (item.node === undefined) {
    return `${title(graph, item)}, ${told(edges, item.edge)}, ${effect(edges.contribution[item.edge])}`;
  }
  const { kind } = graph.bandOf(item.node);
  const scored = kind === "channel" || kind === "image";
  return title(graph, item) + (scored ? `, ${told(nodes, item.node)}` : "");
}
