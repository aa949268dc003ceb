// Headless Chromium, and people who are signed in with it.

import { chromium } from "playwright-core";

import { PASSWORD, Scene } from "./scene.js";
import { Watch } from "./watch.js";

const PROGRAM = process.env.AFTERCHECK_CHROMIUM ?? "/usr/bin/chromium";

/** The one browser and the one service of a run, started when a test first asks for them. */
const started = {};
const sessions = new Map();

/** The browser. */
export function browser() {
  // A container has no sandbox to offer where everything is root already; the pages are ours.
  return (started.browser ??= chromium.launch({ executablePath: PROGRAM, args: ["--no-sandbox", "--disable-gpu"] }));
}

/** The service; who asks first may say what calls it has. */
export function scene(filled) {
  return (started.scene ??= Scene.start(filled));
}

/** Ends both. */
export async function stop() {
  await started.browser?.then((browser) => browser.close());
  await started.scene?.then(
    (scene) => scene.stop(),
    () => {},
  );
}

/** Signs in by the form. */
export async function signIn(page, name) {
  await page.goto("/sign-in?next=/review");
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL(/\/review/);
}

/** A page of its own for somebody who is signed in, or for nobody, with the watch over it. */
export async function open(who, options = {}) {
  const { url } = await scene();
  if (who && !sessions.has(who)) {
    const { page, context, close } = await watched(url);
    await signIn(page, who);
    sessions.set(who, await context.storageState());
    await close();
  }
  return watched(url, { storageState: who ? sessions.get(who) : undefined, ...options });
}

/** A page in a context of its own, with the watch over it, where the pages are at `baseURL`. */
export async function watched(baseURL, options = {}) {
  const context = await (await browser()).newContext({ baseURL, viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(10_000);
  const watch = await Watch.over(context, baseURL);
  const page = await context.newPage();
  return { page, context, watch, close: () => context.close() };
}
