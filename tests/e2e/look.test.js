// How pages look to those who see them otherwise, and that nothing holds up their first paint.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { open } from "./browser.js";
import { PAGES } from "./pages.js";
import { subjects } from "./subjects.js";
import { axe } from "./watch.js";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** A plain subject and a hostile one. */
async function two(page) {
  const all = await subjects(page);
  return all.length < 2
    ? all
    : [all.find((one) => one.tenant_id === "shop") ?? all[0], all.find((one) => one.tenant_id !== "shop")];
}

for (const page of PAGES) {
  test(`axe: ${page.name}, light and dark`, async () => {
    const tab = await open(page.who);
    const found = [];
    for (const one of await two(page)) {
      await tab.page.goto(page.path(one));
      for (const colorScheme of ["light", "dark"]) {
        await tab.page.emulateMedia({ colorScheme });
        found.push(...(await axe(tab.page, AXE)).map((fault) => `${colorScheme}: ${fault}`));
      }
    }
    await tab.close();
    assert.deepEqual(found, []);
  });

  test(`first paint waits for no script: ${page.name}`, async () => {
    const tab = await open(page.who);
    const [one] = await two(page);
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

test("a narrow window leaves room for question, answer and evidence", async () => {
  const tab = await open("eve");
  const page = PAGES.find((page) => page.name === "review-item");
  const [one] = await two(page);
  await tab.page.setViewportSize({ width: 600, height: 800 });
  await tab.page.goto(page.path(one));
  const widths = await tab.page.locator(".columns > section").evaluateAll((all) => all.map((one) => one.clientWidth));
  await tab.close();
  assert.ok(widths.length === 2 && widths.every((width) => width > 450), `they have ${widths} pixels`);
});
