// From a label to a file that tests the next release, in the browser alone.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { open, scene } from "./browser.js";
import { PAGES } from "./pages.js";

const GOOD = "Shoes can be returned within 30 days, free of charge.";

test("promote and export: a failed call becomes a line of the file", async () => {
  const running = await scene();
  const { page, watch, close } = await open("gil");
  const [, call] = running.reviews("open", "gold");
  const path = PAGES.find((one) => one.name === "call").path(call);
  // Nothing becomes a test that nobody has judged.
  await page.goto(path);
  assert.equal(await page.locator("form#promote").count(), 0);
  assert.equal(await page.getByText("Once people have labelled it pass or fail").count(), 1);
  const promotion = { evaluation: call.evaluation_id, dataset: "browser", expected: GOOD, policy: "" };
  const early = await page.context().request.post(`${path}/promote`, { form: promotion, maxRedirects: 0 });
  assert.equal(early.status(), 409);
  assert.deepEqual(running.lines(["gold", "list", "--dataset", "browser"]), []);

  await page.goto(`/review/${call.review_id}`);
  await page.getByLabel("Note").fill("returns are free");
  await page.getByRole("button", { name: /Fail/ }).click();
  await page.waitForFunction((id) => !document.querySelector("form.label")?.action.includes(id), call.review_id);
  await page.goto(path);
  await page.locator("form#promote [name=dataset]").fill("browser");
  await page.locator("form#promote [name=expected]").fill(GOOD);
  await page.locator("form#promote [name=policy]").fill("names no price");
  await page.locator("form#promote button").click();
  await page.waitForURL(/\/golden/);

  await page.goto("/golden?dataset=browser");
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.locator("a[download][href*='dataset=browser']").click(),
  ]);
  const file = join(running.folder, "exported.jsonl");
  await download.saveAs(file);
  const [line] = readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.equal(line.dataset, "browser");
  assert.deepEqual([line.request_id, line.expected, line.policy, line.label], [call.request_id, GOOD, "names no price", "fail"]);
  assert.deepEqual(await watch.of(page), []);
  await close();

  const answers = join(running.folder, "answers.jsonl");
  const check = (answer) => {
    writeFileSync(answers, JSON.stringify({ golden_id: line.golden_id, answer }));
    return running.cli(["--format", "json", "gold", "check", file, "--answers", answers]);
  };
  assert.equal(JSON.parse(check(GOOD)).held, 1);
  assert.throws(() => check(line.actual), /: 1 /, "the bad answer fails");
});
