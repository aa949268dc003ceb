// Pictures of every page, light and dark, for docs/pages: made-up traffic of examples/traffic.jsonl, judged and partly labelled.

import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";

import { open, scene, stop } from "./browser.js";
import { PAGES, isBuilt } from "./pages.js";

/** So many calls of the example traffic are on the pictures. */
const CALLS = 150;
const folder = resolve(process.argv[2] ?? ".");

try {
  const traffic = readFileSync(new URL("../../examples/traffic.jsonl", import.meta.url), "utf8").split("\n").slice(0, CALLS);
  const running = await scene({ messages: traffic });
  // Two of what waits are labelled, and one of them is a golden row.
  for (const [said, note] of [["fail", "not in the contexts"], ["pass", ""]]) {
    const [{ review }] = running.lines(["review", "next", "--reviewer", "ana"]);
    running.cli(["review", "label", review.review_id, said, "--reviewer", "ana", "--note", note]);
    if (said === "fail") running.cli(["gold", "promote", review.review_id, "--review", "--by", "ana", "--policy", "says only what the contexts say"]);
  }
  const [row] = isBuilt("golden-row") ? running.lines(["gold", "list"]) : [];
  const waiting = running.reviews("").filter((item) => item.state === "open");
  for (const colorScheme of ["light", "dark"]) {
    for (const page of PAGES.filter((page) => page.built)) {
      const tab = await open(page.who, { colorScheme });
      await tab.page.goto(page.path({ call: waiting[0], row: row?.golden ?? row }[page.of]));
      await tab.page.screenshot({ path: join(folder, `${page.name}-${colorScheme}.png`) });
      await tab.close();
    }
  }
} finally {
  await stop();
}
