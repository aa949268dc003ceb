// The checker itself: each of these pages is broken in one way, and it says so.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

import { watched } from "./browser.js";
import { axe, weight } from "./watch.js";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const STRICT = "default-src 'none'; script-src 'self'";

/** A body, what is found in it, and the policy of the page where it has one. */
const BROKEN = {
  "raw-script": ["<script>alert(1)</script>", /alert\(1\)/],
  marker: ["<script>window.__xss = 1</script>", /window\.__xss = 1/],
  question: ["<script>confirm('sure')</script>", /confirm\(sure\)/],
  handler: ["<img src=x onerror=\"prompt('x')\">", /prompt\(x\)/],
  "handler-that-waits": ["<p onclick=alert(1)>x</p>", /attribute onclick/],
  stopped: ["<script>alert(1)</script>", /policy script-src-elem stops inline/, STRICT],
  elsewhere: ["<img alt='' src='http://evil.invalid/x.gif'>", /request to http:\/\/evil\.invalid/],
  address: ["<a href='javascript:alert(1)'>x</a>", /href leads to javascript:/],
  form: ["<form action='https://evil.invalid/'></form>", /action leads to https:\/\/evil\.invalid/],
  frame: ["<iframe srcdoc='<b>x</b>'></iframe>", /element <iframe/],
  vector: ["<svg><text>x</text></svg>", /element <svg/],
  style: ["<p style='color: red'>x</p>", /attribute style/],
  htmx: ["<p hx-on:click='x'>x</p>", /attribute hx-on:click/],
  twice: ["<p id=a></p><p id=a></p>", /the id a is there twice/],
  blocking: ["<script src='/empty.js'></script>", /holds up the page/],
  thrown: ["<script>throw new Error('broken')</script>", /error broken/],
  server: ["<link rel=stylesheet href='/500'>", /500 of/],
};

let server;
let url;

before(async () => {
  server = createServer((request, response) => {
    const [body, , policy] = BROKEN[request.url.slice(1)] ?? [];
    if (request.url === "/500") response.statusCode = 500;
    if (policy) response.setHeader("content-security-policy", policy);
    response.setHeader("content-type", request.url.endsWith(".js") ? "text/javascript" : "text/html; charset=utf-8");
    const text =
      body ??
      { "/clean": "<h1>Clean</h1><p>&lt;script&gt;alert(1)&lt;/script&gt;</p>", "/pale": "<h1>x</h1><input>" }[request.url] ??
      "";
    response.end(request.url.endsWith(".js") ? "" : `<!doctype html><html lang="en"><title>x</title><main>${text}</main></html>`);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  url = `http://127.0.0.1:${server.address().port}`;
});

after(() => server.close());

for (const [name, [, told]] of Object.entries(BROKEN)) {
  test(`the checker finds ${name}`, async () => {
    const { page, watch, close } = await watched(url);
    await page.goto(`/${name}`);
    const found = await watch.of(page);
    await close();
    assert.match(found.join("; "), told);
  });
}

test("the checker finds nothing on a clean page", async () => {
  const { page, watch, close } = await watched(url);
  await page.goto("/clean");
  assert.deepEqual(await watch.of(page), []);
  assert.deepEqual(await axe(page, AXE), []);
  assert.ok((await weight(page)) > 50);
  await close();
});

test("axe finds a field without a name, under a policy that allows no script", async () => {
  const { page, close } = await watched(url);
  await page.goto("/pale");
  assert.match((await axe(page, AXE)).join(), /label/);
  await close();
});
