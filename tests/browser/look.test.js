// How pages look to those who see them otherwise, and that nothing holds up their first paint.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { open, scene } from "./browser.js";
import { PAGES } from "./pages.js";
import { axe } from "./watch.js";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** A plain call and a hostile one, or the same of golden rows, or nothing. */
export async function subjects(page) {
  const running = await scene();
  if (page.of === "call") return [running.reviews("shop").at(-1), running.reviews("hostile").at(-1)];
  if (page.of === "row") return running.lines(["gold", "list", "--limit", "1000"]).map((row) => row.golden ?? row).slice(-2);
  return [null];
}

for (const page of PAGES) {
  if (!page.built) {
    test(`${page.name} is not built, as pages.js says`, async () => {
      const { context, close } = await open(page.who);
      const path = page.path({ tenant_id: "shop", request_id: "order-4700", golden_id: "00000000-0000-0000-0000-000000000000", review_id: "" });
      const answer = await context.request.get(path, { maxRedirects: 0 });
      await close();
      assert.equal(answer.status(), 404, `${path} is there: set built in tests/browser/pages.js`);
    });
    continue;
  }
  for (const colorScheme of ["light", "dark"]) {
    test(`axe: ${page.name}, ${colorScheme}`, async () => {
      const tab = await open(page.who, { colorScheme });
      const found = [];
      for (const one of await subjects(page)) {
        await tab.page.goto(page.path(one));
        found.push(...(await axe(tab.page, AXE)));
      }
      await tab.close();
      assert.deepEqual(found, []);
    });
  }

  test(`first paint waits for no script: ${page.name}`, async () => {
    const tab = await open(page.who);
    const [one] = await subjects(page);
    let release;
    const held = new Promise((done) => (release = done));
    await tab.context.route("**/*.js*", async (route) => {
      await held;
      await route.continue();
    });
    await tab.page.goto(page.path(one), { waitUntil: "commit" });
    const painted = await tab.page.waitForFunction(
      () => performance.getEntriesByName("first-contentful-paint").length > 0 && document.querySelector("main") !== null,
      null,
      { polling: 50 },
    );
    assert.ok(painted);
    release();
    await tab.page.waitForLoadState();
    await tab.close();
  });
}
