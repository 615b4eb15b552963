import type { paths } from "openapi";

/** "layers/{layer}/units" -> ["layers", string, "units"]. */
type Segments<Route extends string> = Route extends `${infer First}/${infer Rest}`
  ? readonly [Segment<First>, ...Segments<Rest>]
  : readonly [Segment<Route>];
type Segment<Part extends string> = Part extends `{${string}}` ? string : Part;

type Routes = {
  [Path in keyof paths as Path extends `/api/v1/${infer Route}` ? Route : never]: paths[Path];
};
type Json<Item> = Item extends {
  get: { responses: { 200: { content: { "application/json": infer Body } } } };
}
  ? Body
  : never;
type Matched<Path extends readonly string[]> = {
  [Route in keyof Routes]: Path extends Segments<Route> ? Json<Routes[Route]> : never;
}[keyof Routes];

/**
 * What the server answers under a path, which is given as its segments: the model that openapi.json
 * names for that route. Where the path is known only as it runs, anything.
 */
export type Answer<Path extends readonly string[]> = [Matched<Path>] extends [never]
  ? any
  : Matched<Path>;

/** A row of an answer that has rows. */
export type Row<Path extends readonly string[]> = Answer<Path> extends { rows: (infer One)[] }
  ? One
  : any;
