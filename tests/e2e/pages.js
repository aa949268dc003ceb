// Every page, in one place: each is visited with hostile calls, read by axe in both schemes, weighed, and pictured.
//
// A page may stand here before it is built: `built` says whether this version has it, and a test fails where that is not true.
// `of` says what the page is about: nothing, or a call, a golden row, a dead letter or a text, which `path` is given
// (subjects.js). `may` names elements that only this page has, `who` is the account that opens it (null: nobody), `status` what
// it is answered with, `most` how many hostile subjects it is opened with where all would take long and show nothing else.

/** A part of a path, whatever stands in it. */
const part = (text) => encodeURIComponent(text);

export const PAGES = [
  { name: "sign-in", built: true, who: null, of: "text", most: 25, path: (text) => `/sign-in?next=${part(text)}` },
  { name: "overview", built: true, who: "eve", path: () => "/", may: ["svg", "line", "rect", "text"] },
  { name: "review", built: true, who: "eve", path: () => "/review" },
  { name: "review-item", built: true, who: "eve", of: "call", most: 60, path: (call) => `/review/${call.review_id}` },
  {
    name: "call",
    built: true,
    who: "eve",
    of: "call",
    path: (call) => `/calls/${part(call.tenant_id)}/${part(call.request_id)}`,
  },
  {
    name: "find",
    built: true,
    who: "eve",
    of: "call",
    most: 15,
    path: (call) => `/calls?request_id=${part(`${call.request_id} not here`)}`,
  },
  { name: "dead", built: true, who: "eve", path: () => "/dead" },
  { name: "letter", built: true, who: "eve", of: "letter", most: 25, path: (letter) => `/dead/${letter.dead_letter_id}` },
  { name: "golden", built: true, who: "eve", path: () => "/golden" },
  { name: "golden-row", built: true, who: "eve", of: "row", path: (row) => `/golden/${row.golden_id}` },
  { name: "away", built: true, who: "eve", status: 404, path: () => "/golden/00000000-0000-0000-0000-000000000000" },
];

/** Whether this version has a page. */
export function isBuilt(name) {
  return PAGES.find((page) => page.name === name).built;
}
