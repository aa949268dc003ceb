// What pages are about: calls, golden rows and dead letters of the running service, by the command line; and hostile texts.

import { scene } from "./browser.js";
import { WHOLE } from "./calls.js";

/** Everything that a page can be about, those of tenants whose names begin like this; `[null]` for a page about nothing. */
export async function subjects(page, tenant = "") {
  const running = await scene();
  const whose = (one) => (one.tenant_id ?? "").startsWith(tenant);
  switch (page.of) {
    case "call":
      return ["open", "disputed", "closed"].flatMap((state) => running.reviews(state)).filter(whose);
    case "row":
      return running
        .lines(["gold", "list", "--limit", "1000"])
        .map((row) => row.golden ?? row)
        .filter(whose);
    case "letter":
      return running.lines(["dead", "list", "--limit", "1000"]).flat();
    case "text":
      return WHOLE.map((text) => [...text].slice(0, 500).join(""));
    default:
      return [null];
  }
}
