/** Asks the server, whose answers are all under `api/v1/`, beside the app. */

/** @import { Answer, Row } from "answers" */

import { parseCsv } from "./csv.js";

const BASE = new URL("api/v1/", document.baseURI);
const KEPT = 400;
const ROWS = 1000;
const answers = new Map();

/** An error in the server's words. `kind` is one of ours, or `network`, or `response`. */
class ApiError extends Error {
  constructor(message, kind, status = 0) {
    super(message);
    this.name = "ApiError";
    this.kind = kind;
    this.status = status;
  }
}

/**
 * Parameters of an answer; null, undefined and "" are left out.
 *
 * @typedef {Record<string, string|number|boolean|null|undefined>} Query
 */

/**
 * Makes the address of an answer.
 *
 * @param {readonly string[]} path segments, not escaped yet.
 * @param {Query} query
 */
export function url(path, query = {}) {
  const found = new URL(path.map((part) => encodeURIComponent(part)).join("/"), BASE);
  for (const [key, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") found.searchParams.set(key, String(value));
  }
  return found.href;
}

/**
 * Gets the JSON of an answer. Answers are kept, so that going back shows them at once.
 *
 * @template {readonly string[]} const P
 * @param {P} path
 * @param {Query} [query]
 * @returns {Promise<Answer<P>>}
 */
export function get(path, query = {}) {
  const address = url(path, query);
  const known = answers.get(address);
  if (known) return known;
  const answer = request(address);
  answers.set(address, answer);
  answer.catch(() => answers.delete(address));
  if (answers.size > KEPT) answers.delete(answers.keys().next().value);
  return answer;
}

/**
 * Gets all rows of a table, page by page.
 *
 * @template {readonly string[]} const P
 * @param {P} path
 * @param {Query} [query]
 * @returns {Promise<Row<P>[]>}
 */
export async function all(path, query = {}) {
  const rows = [];
  for (;;) {
    /** @type {any} */ // Only a caller knows that its path is of an answer with rows.
    const found = await get(path, { ...query, offset: rows.length || null, limit: ROWS });
    rows.push(...found.rows);
    if (rows.length >= found.total || !found.rows.length) return rows;
  }
}

/**
 * Gets an answer that is a file.
 *
 * @param {readonly string[]} path
 * @param {Query} [query]
 */
export async function file(path, query) {
  const response = await send(url(path, query));
  if (response.ok) return response.blob();
  throw refusal(response, await response.json().catch(() => null));
}

/**
 * Gets all rows of a table at once, as its file has them.
 *
 * @param {readonly string[]} path
 * @param {Query} [query]
 */
export async function table(path, query = {}) {
  const text = await (await file(path, { ...query, format: "csv" })).text();
  return parseCsv(text);
}

async function request(address) {
  const response = await send(address);
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  throw refusal(response, body);
}

function refusal(response, body) {
  return new ApiError(
    body?.error?.message ?? `the server answered ${response.status} without saying why`,
    body?.error?.kind ?? "response",
    response.status,
  );
}

async function send(address) {
  try {
    return await fetch(address, { headers: { Accept: "application/json" } });
  } catch {
    throw new ApiError(
      "the server does not answer: see whether `circuit-atlas serve` still runs",
      "network",
    );
  }
}

/** Gets the atlas' own facts, which every page needs, once. */
export async function atlas() {
  const facts = await get(["atlas"]);
  version = facts.version;
  return facts;
}
let version = null;

/**
 * Gives the segments of a unit's answers.
 *
 * @template {readonly string[]} const M
 * @param {string} layer
 * @param {string} unit number or name.
 * @param {M} more
 * @returns {readonly ["layers", string, "units", string, ...M]}
 */
export const unitPath = (layer, unit, ...more) => ["layers", layer, "units", unit, ...more];

/** Widths at which images are asked for, in pixels: few, so that one serves several places. */
const WIDTHS = [96, 160, 320];

/**
 * Gives the width at which an image is asked for that is shown `shown` points wide; null: as it is.
 *
 * @param {number|null} shown
 */
export const widthOf = (shown) =>
  shown === null ? null : (WIDTHS.find((width) => width >= shown * devicePixelRatio) ?? null);

/**
 * Makes the address of a sheet of images.
 *
 * @param {string[]} cells each an image's number, with `:top,left,bottom,right` where that part is
 *   shown.
 * @param {number} width of each, in pixels.
 */
export const sheetUrl = (cells, width) =>
  url(["images", "sheet"], { v: version, width, cells: cells.join(";") });

/**
 * Makes the address of an image as the network sees it.
 *
 * @param {number|string} image
 * @param {object} [of]
 * @param {number|null} [of.shown] points that it is shown wide. Default: it is sent as it is.
 * @param {number[]|null} [of.box] the part that is shown: top, left, bottom, right.
 */
export const imageUrl = (image, { shown = null, box = null } = {}) =>
  url(["images", String(image), "file"], { v: version, width: widthOf(shown), box: box?.join() });
