// What reviewers do at /review: by key, by form, two at once, too late, and without JavaScript.

import assert from "node:assert/strict";
import { test } from "node:test";

import { open, scene, signIn } from "./browser.js";
import { PEOPLE } from "./scene.js";

/** The item that is shown. */
const item = (page) =>
  page
    .locator("form.label")
    .getAttribute("action")
    .then((action) => action.split("/")[2]);
/** What is said above it. */
const told = (page) => page.locator(".message").first();

/** Waits until another item is shown, or none. */
async function moved(page, from) {
  await page.waitForFunction((from) => !document.querySelector("form.label")?.getAttribute("action").includes(from), from);
}

test("signing in: a wrong password is told, a right one leads on", async () => {
  const { page, watch, close } = await open(null);
  await page.goto("/review");
  assert.match(page.url(), /\/sign-in\?next=/);
  await page.getByLabel("Name").fill("kay");
  await page.getByLabel("Password").fill("not the password");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").waitFor();
  await signIn(page, "kay");
  assert.deepEqual(await watch.of(page), []);
  await close();
});

test("keys: p, f, u and s go on to the next item", async () => {
  const { page, watch, close } = await open("kay");
  await page.goto("/review");
  const seen = new Set();
  for (const [key, said] of [
    ["p", /pass/],
    ["f", /fail/],
    ["u", /unsure/],
    ["s", /skipped/],
  ]) {
    const before = await item(page);
    seen.add(before);
    await page.keyboard.press(key);
    await moved(page, before);
    assert.match(await told(page).innerText(), said);
  }
  assert.equal(seen.size, 4);
  assert.deepEqual(await watch.of(page), []);
  await close();
});

test("keys: arrows go through the claims and their evidence", async () => {
  const { page, close } = await open("kay");
  await page.goto("/review");
  assert.ok((await page.locator("article[id^=claim-]").count()) >= 3);
  const at = () => page.evaluate(() => document.querySelector("article:target")?.id);
  for (const [key, claim] of [
    ["ArrowRight", "claim-1"],
    ["ArrowRight", "claim-2"],
    ["j", "claim-3"],
    ["ArrowLeft", "claim-2"],
    ["k", "claim-1"],
    ["k", "claim-1"],
  ]) {
    await page.keyboard.press(key);
    assert.equal(await at(), claim, key);
  }
  await close();
});

test("keys: none while somebody types, or with Ctrl", async () => {
  const { page, close } = await open("kay");
  await page.goto("/review");
  const before = await item(page);
  await page.getByLabel("Note").pressSequentially("pfusz?");
  await page.locator("h1").click();
  await page.keyboard.press("Control+f");
  assert.equal(await item(page), before);
  assert.equal(await page.getByLabel("Note").inputValue(), "pfusz?");
  await close();
});

test("keys: ? lists them", async () => {
  const { page, close } = await open("kay");
  await page.goto("/review");
  const keys = page.locator("dialog#keys");
  await page.keyboard.press("?");
  assert.ok(await keys.isVisible());
  const before = await item(page);
  await page.keyboard.press("p");
  await page.keyboard.press("Escape");
  assert.ok(!(await keys.isVisible()));
  assert.equal(await item(page), before, "a key of the list labels nothing");
  await close();
});

test("keys: z takes the last label back, and its item is there again", async () => {
  const { page, watch, close } = await open("una");
  await page.goto("/review");
  const first = await item(page);
  await page.keyboard.press("f");
  await moved(page, first);
  await page.keyboard.press("z");
  await page.waitForURL(new RegExp(`/review/${first}`)).catch(() => {});
  assert.equal(await item(page), first);
  assert.match(await page.locator(".facts").innerText(), /0 of 1/);
  assert.equal((await scene()).reviews("open", "undo").length, 2);
  assert.deepEqual(await watch.of(page), []);
  await close();
});

test("two reviewers at once get different items", async () => {
  const [ann, bob] = await Promise.all([open("ann"), open("bob")]);
  for (let round = 0; round < 2; round++) {
    await Promise.all([ann.page.goto("/review"), bob.page.goto("/review")]);
    const [hers, his] = await Promise.all([item(ann.page), item(bob.page)]);
    assert.notEqual(hers, his);
    await ann.page.reload();
    assert.equal(await item(ann.page), hers, "who asks again gets the same one");
    await Promise.all([ann.page.keyboard.press("p"), bob.page.keyboard.press("f")]);
    await Promise.all([moved(ann.page, hers), moved(bob.page, his)]);
  }
  assert.match(await ann.page.locator("main").innerText(), /Nothing waits for you/);
  const closed = (await scene()).reviews("closed", "pair");
  assert.equal(closed.length, 4);
  await Promise.all([ann.close(), bob.close()]);
});

test("a form that is too late says so, and keeps what was typed", async () => {
  const { page, context, watch, close } = await open("sam");
  await page.goto("/review");
  const first = await item(page);
  const other = await context.newPage();
  await other.goto("/review");
  assert.equal(await item(other), first);
  await other.keyboard.press("p");
  await moved(other, first);
  await page.getByLabel("Note").fill("the price is free");
  await page.getByLabel("What the answer should have been").fill("It costs nothing.");
  const [answer] = await Promise.all([
    page.waitForResponse((response) => response.request().method() === "POST"),
    page.getByRole("button", { name: /Fail/ }).click(),
  ]);
  assert.equal(answer.status(), 409);
  await told(page).waitFor();
  assert.match(await told(page).innerText(), /not saved: /);
  assert.equal(await page.getByLabel("Note").inputValue(), "the price is free");
  assert.equal(await page.getByLabel("What the answer should have been").inputValue(), "It costs nothing.");
  const closed = (await scene()).reviews("closed", "stale");
  assert.equal(closed.length, 1, "the first label stands");
  assert.deepEqual(await watch.of(page), []);
  await close();
});

test("a label without JavaScript, with a note", async () => {
  const { page, close } = await open("nos", { javaScriptEnabled: false });
  await page.goto("/review");
  const first = await item(page);
  await page.getByLabel("Note").fill("made up");
  await page.getByRole("button", { name: /Fail/ }).click();
  assert.match(await told(page).innerText(), /fail/);
  assert.notEqual(await item(page), first);
  await page.getByRole("button", { name: /undo/i }).click();
  assert.equal(await item(page), first);
  await page.getByRole("button", { name: /Skip/ }).click();
  assert.match(await told(page).innerText(), /skipped/);
  await close();
});

test("a name is text, whatever it is", async () => {
  const name = PEOPLE.at(-1)[0];
  const { page, watch, close } = await open(name);
  await page.goto("/review");
  assert.ok((await page.locator("header").innerText()).includes(name));
  assert.deepEqual(await watch.of(page), []);
  await close();
});
