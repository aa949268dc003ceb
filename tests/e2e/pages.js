// Every page, in one place: each is visited with hostile calls, read by axe in both schemes, weighed, and pictured.
//
// `of` says what the page is about: nothing, or a call, a golden row, a dead letter or a text, which `path` is given
// (subjects.js). `may` names elements that only this page has, `who` is the account that opens it (null: nobody), `status` what
// it is answered with, `pictured: false` keeps it out of the pictures, `most` how many hostile subjects it is opened with where all
// would take long and show nothing else.

/** A part of a path, whatever stands in it. */
const part = (text) => encodeURIComponent(text);

export const PAGES = [
  { name: "sign-in", who: null, of: "text", most: 25, path: (text) => `/sign-in?next=${part(text)}` },
  { name: "overview", who: "eve", path: () => "/", may: ["svg", "line", "rect", "text"] },
  { name: "review", who: "eve", path: () => "/review" },
  { name: "review-item", who: "eve", of: "call", most: 60, path: (call) => `/review/${call.review_id}` },
  {
    name: "call",
    who: "eve",
    of: "call",
    path: (call) => `/calls/${part(call.tenant_id)}/${part(call.request_id)}`,
  },
  {
    name: "find",
    who: "eve",
    of: "call",
    most: 15,
    path: (call) => `/calls?request_id=${part(`${call.request_id} not here`)}`,
  },
  { name: "calls", who: "eve", path: () => "/calls" },
  {
    name: "calls-filtered",
    pictured: false,
    who: "eve",
    of: "text",
    most: 15,
    path: (text) => `/calls?feature=${part(text)}&rule=${part(text)}`,
  },
  { name: "dead", who: "eve", path: () => "/dead" },
  { name: "letter", who: "eve", of: "letter", most: 25, path: (letter) => `/dead/${letter.dead_letter_id}` },
  { name: "golden", who: "eve", path: () => "/golden" },
  { name: "golden-row", who: "eve", of: "row", path: (row) => `/golden/${row.golden_id}` },
  { name: "found", pictured: false, who: "eve", path: () => "/calls?request_id=order-4700" },
  { name: "nothing-waits", pictured: false, who: "ivy", path: () => "/review" },
  {
    name: "refused-file",
    pictured: false,
    who: "eve",
    status: 409,
    path: () => "/golden/export?dataset=twins",
  },
  { name: "away", who: "eve", status: 404, path: () => "/golden/00000000-0000-0000-0000-000000000000" },
];
