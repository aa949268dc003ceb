// Whatever stands in a call, and whatever people write, is text on every page: nothing of it runs.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { open, scene } from "./browser.js";
import { HOSTILE, WHOLE, hostile } from "./calls.js";
import { PAGES } from "./pages.js";
import { subjects } from "./subjects.js";
import { weight } from "./watch.js";

/** Most bytes of a page with all that it loads. */
const MAX_BYTES = 150_000;
/** Most that a person writes in these tests; what is longer is refused. */
const WRITTEN = 1500;

let calls = [];
/** Calls whose answer was seen on a page as it is. */
const shown = new Set();

/** What a person writes in the place of string number `at`. */
const written = (at) => [...WHOLE[at % WHOLE.length]].slice(0, WRITTEN).join("");

/** Whether the answer of a call stands on the page; not asked of what is shown as a number, because it cannot be seen, or cut. */
async function shows(page, call) {
  const { answer } = hostile(Number(call.request_id.split(" ").at(-1))).content;
  const text = await page.locator("main").evaluate((main) => main.textContent);
  return /^[\x20-\x7e]{8,400}$/.test(answer) && text.includes(answer.slice(0, 30));
}

before(async () => {
  calls = await subjects({ of: "call" }, "hostile");
  const { context, close } = await open("eve");
  const post = (path, form) => context.request.post(path, { form, maxRedirects: 0 });
  // Every other call is labelled, with words as bad as its own, and where it was kept whole it becomes a golden row.
  for (const [at, call] of calls.entries()) {
    if (at % 2 === 1) continue;
    const label = { said: "fail", note: written(at), expected: written(at + 1), token: "", adjudicates: "false" };
    assert.equal((await post(`/review/${call.review_id}/label`, label)).status(), 303, call.request_id);
    const promotion = { evaluation: call.evaluation_id, dataset: "hostile", expected: written(at + 1), policy: written(at + 2) };
    const { path } = PAGES.find((page) => page.name === "call");
    assert.ok([303, 409, 422].includes((await post(`${path(call)}/promote`, promotion)).status()), call.request_id);
  }
  await close();
});

test("the corpus is large, and stands in the calls", () => {
  assert.ok(HOSTILE.length >= 60);
  assert.ok(calls.length >= 60, `${calls.length} hostile calls wait for people`);
});

for (const page of PAGES) {
  test(`hostile: nothing runs on ${page.name}`, async () => {
    const about = (await subjects(page, page.of === "letter" ? "" : "hostile")).slice(0, page.most);
    assert.ok(about.length >= (page.most ?? (page.of ? 30 : 1)), `there are ${about.length}`);
    const tab = await open(page.who);
    const faults = [];
    for (const one of about) {
      const path = page.path(one);
      const answer = await tab.page.goto(path);
      const bytes = await weight(tab.page);
      const found = await tab.watch.of(tab.page, page.may);
      if (page.of === "call" && (await shows(tab.page, one))) shown.add(one.request_id);
      if (answer.status() !== (page.status ?? 200)) found.push(`answered ${answer.status()}`);
      if (new URL(tab.page.url()).pathname !== new URL(path, answer.url()).pathname) found.push(`is at ${tab.page.url()}`);
      if (bytes > MAX_BYTES) found.push(`has ${bytes} bytes`);
      if (found.length > 0) faults.push(`${path.slice(0, 100)}: ${found.join("; ")}`);
    }
    await tab.close();
    assert.deepEqual(faults, []);
  });
}

test("hostile: it is shown, and not left out", () => {
  assert.ok(shown.size >= 40, `${shown.size} answers stand on their pages as they are`);
});

test("hostile: what is typed and not saved comes back as text", async () => {
  const [done] = (await scene()).reviews("open", "shop");
  const { page, watch, close } = await open("eve");
  await page.goto(`/review/${done.review_id}`);
  await page.getByRole("button", { name: /Pass/ }).click();
  await page.goto(`/review/${done.review_id}`);
  const faults = [];
  for (let at = 0; at < WHOLE.length; at += 2) {
    // Set and not typed: keys would not make all of them.
    const note = await page.evaluate(
      ([note, expected]) => {
        document.querySelector("#main").dataset.before = "";
        document.querySelector("#expected").value = expected;
        return (document.querySelector("#note").value = note);
      },
      [written(at), written(at + 1)],
    );
    await Promise.all([
      page.waitForResponse((answer) => answer.request().method() === "POST" && [409, 422].includes(answer.status())),
      page.getByRole("button", { name: /Fail/ }).click(),
    ]);
    await page.waitForSelector("#main:not([data-before]) .message");
    const found = await watch.of(page);
    const kept = await page.locator("#note").inputValue();
    if (/^[\x20-\x7e]*$/.test(note) && kept !== note) found.push(`it is ${kept.slice(0, 100)}`);
    if (found.length > 0) faults.push(`${JSON.stringify(note.slice(0, 60))}: ${found.join("; ")}`);
  }
  await close();
  assert.deepEqual(faults, []);
});

for (const isGuarded of [true, false]) {
  test(`the checker finds a build that does not escape, ${isGuarded ? "behind its policy" : "and has no policy"}`, async () => {
    const { page, context, watch, close } = await open("eve");
    const signs = { "&#60;": "<", "&#62;": ">", "&#34;": '"', "&#39;": "'", "&#38;": "&" };
    await context.route("**/review/*", async (route) => {
      const response = await route.fetch();
      const headers = response.headers();
      if (!isGuarded) delete headers["content-security-policy"];
      const body = (await response.text()).replace(/&#\d\d;/g, (sign) => signs[sign] ?? sign);
      await route.fulfill({ response, headers, body });
    });
    let found = 0;
    for (const call of calls.slice(0, 12)) {
      await page.goto(`/review/${call.review_id}`, { waitUntil: "commit" });
      await page.waitForLoadState("domcontentloaded");
      if ((await watch.of(page)).length > 0) found++;
    }
    await close();
    assert.ok(found >= 10, `${found} of 12 calls were found out`);
  });
}
