// Pictures of every page, light and dark, for docs/pages: made-up traffic of examples/traffic.jsonl, judged and partly labelled.

import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";

import { open, scene, stop } from "./browser.js";
import { plain } from "./calls.js";
import { PAGES } from "./pages.js";
import { subjects } from "./subjects.js";

/** So many calls of the example traffic are on the pictures. */
const CALLS = 200;
/** The review that is shown has about so many claims, so that text and evidence are both to be seen. */
const CLAIMS = 3;
const folder = resolve(process.argv[2] ?? ".");

try {
  const traffic = readFileSync(new URL("../../examples/traffic.jsonl", import.meta.url), "utf8").split("\n");
  // A machine that makes pictures may have no fonts for other scripts.
  const messages = traffic.filter((line) => /^[\x20-\x7e\u2010-\u203a\u20ac]+$/.test(line)).slice(0, CALLS);
  messages.push(JSON.stringify({ ...plain("acme-shop", 1), tokens_in: "many" }));
  const running = await scene({ messages, audit: 0.05 });
  // Two of what waits are labelled, and one of them is a golden row.
  for (const [said, note] of [
    ["fail", "not in the contexts"],
    ["pass", ""],
  ]) {
    const [{ review }] = running.lines(["review", "next", "--reviewer", "ana"]);
    running.cli(["review", "label", review.review_id, said, "--reviewer", "ana", "--note", note]);
    if (said === "fail")
      running.cli([
        "gold",
        "promote",
        review.review_id,
        "--review",
        "--by",
        "ana",
        "--policy",
        "says only what the contexts say",
      ]);
  }
  const claims = (item) =>
    running.lines(["why", item.request_id, "--tenant", item.tenant_id])[0][0]?.evaluations.at(-1)?.claims.length ?? 0;
  const waiting = running.reviews("open").map((item) => ({ ...item, claims: claims(item) }));
  waiting.sort((one, other) => Math.abs(one.claims - CLAIMS) - Math.abs(other.claims - CLAIMS));
  for (const colorScheme of ["light", "dark"]) {
    for (const page of PAGES.filter((page) => page.pictured !== false)) {
      const tab = await open(page.who, { colorScheme });
      const [one] = page.of === "call" ? waiting : await subjects(page);
      await tab.page.goto(page.path(one));
      await tab.page.screenshot({ path: join(folder, `${page.name}-${colorScheme}.png`) });
      await tab.close();
    }
  }
} finally {
  await stop();
}
