// Every page, in one place: each is visited with hostile calls, read by axe in both schemes, weighed, and pictured.
//
// A page is on this list before it is built; `built` says whether this version has it, and a test fails where that is not true.
// `of` says what the page is about: nothing, or a call or a golden row, which `path` is given. `may` names elements that only
// this page has. `who` is the account that opens it, null nobody.

/** A part of a path, whatever stands in it. A browser takes . and .. for something else however they are written. */
const part = (text) => encodeURIComponent(text);

export const PAGES = [
  { name: "sign-in", built: true, who: null, path: () => "/sign-in" },
  { name: "review", built: true, who: "eve", path: () => "/review" },
  { name: "review-item", built: true, who: "eve", of: "call", path: (call) => `/review/${call.review_id}` },
  { name: "overview", built: true, who: "eve", path: () => "/", may: ["svg", "g", "path", "rect", "line", "text", "circle", "polyline"] },
  { name: "call", built: true, who: "eve", of: "call", path: (call) => `/calls/${part(call.tenant_id)}/${part(call.request_id)}` },
  { name: "dead", built: true, who: "eve", path: () => "/dead" },
  { name: "golden", built: true, who: "eve", path: () => "/golden" },
  { name: "golden-row", built: true, who: "eve", of: "row", path: (row) => `/golden/${row.golden_id}` },
];

/** Whether this version has a page. */
export function isBuilt(name) {
  return PAGES.find((page) => page.name === name).built;
}
