// The checker: what a page must not do, and what must not stand in it. Its own test is checker.test.js.

/** Elements that our pages are made of; a page of pages.js may name more. */
const ELEMENTS = new Set(
  (
    "html head meta title link script body a header footer strong em b code kbd small nav span main div p h1 h2 h3 " +
    "section article aside dl dt dd ul ol li details summary dialog form input label textarea select option button mark sup abbr " +
    "time hr br pre table caption thead tbody tfoot tr th td"
  ).split(" "),
);

/** Put into every document before anything of it runs: tells of whatever a script can do that ours do not. */
function hook() {
  const tell = (what) => globalThis.__tell(what);
  for (const name of ["alert", "prompt", "print", "open"]) {
    globalThis[name] = (...words) => void tell(`${name}(${words.join(", ").slice(0, 80)})`);
  }
  // Our pages ask before they drop something; nobody has asked for that here.
  globalThis.confirm = (text) => (tell(`confirm(${text})`), false);
  Object.defineProperty(globalThis, "__xss", { set: (value) => tell(`window.__xss = ${value}`), get: () => undefined });
  document.addEventListener("securitypolicyviolation", (event) =>
    tell(`policy ${event.violatedDirective} stops ${event.blockedURI} ${event.sample}`),
  );
}

/** Run in the page: what stands in it and should not. */
function strange({ elements, origin }) {
  const found = [];
  const addresses = [
    "href",
    "src",
    "action",
    "formaction",
    "xlink:href",
    "data",
    "poster",
    "background",
    "srcset",
    "ping",
    "cite",
  ];
  for (const element of document.querySelectorAll("*")) {
    const name = element.localName;
    const shown = element.outerHTML.slice(0, 120);
    if (!elements.includes(name)) found.push(`element ${shown}`);
    for (const { name: attribute, value } of element.attributes) {
      if (/^on|^srcdoc$|^style$|^hx-on|^data-hx-on/.test(attribute)) found.push(`attribute ${attribute} in ${shown}`);
      // An icon that is empty keeps the browser from asking for one.
      const isNoIcon = name === "link" && element.rel === "icon" && value === "data:,";
      if (!addresses.includes(attribute) || isNoIcon) continue;
      const url = URL.parse ? URL.parse(value, document.baseURI) : new URL(value, document.baseURI);
      if (url?.origin !== origin) found.push(`${attribute} leads to ${value.slice(0, 80)} in ${shown}`);
    }
    if (name === "meta" && element.httpEquiv) found.push(`element ${shown}`);
    if (name === "script" && (!element.src || element.text.trim() || !(element.defer || element.type === "module"))) {
      found.push(`a script that is no file of ours, or holds up the page: ${shown}`);
    }
  }
  if (document.querySelectorAll("main").length !== 1) found.push("there is not one main");
  for (const id of new Set([...document.querySelectorAll("[id]")].map((one) => one.id))) {
    if (document.querySelectorAll(`#${CSS.escape(id)}`).length > 1) found.push(`the id ${id} is there twice`);
  }
  return found;
}

/** Watches all pages of a browser context. */
export class Watch {
  /** Begins to watch; `origin` is where the pages are. */
  static async over(context, origin) {
    const watch = new Watch();
    Object.assign(watch, { origin, faults: [] });
    await context.exposeBinding("__tell", (_, what) => void watch.faults.push(what));
    await context.addInitScript(hook);
    context.on("dialog", (dialog) => {
      watch.faults.push(`dialog ${dialog.type()}`);
      void dialog.dismiss().catch(() => {});
    });
    context.on("request", (request) => {
      if (!request.url().startsWith(`${origin}/`)) watch.faults.push(`request to ${request.url().slice(0, 120)}`);
    });
    context.on("response", (response) => {
      if (response.status() >= 500) watch.faults.push(`${response.status()} of ${response.url()}`);
    });
    context.on("weberror", (error) => watch.faults.push(`error ${error.error().message}`));
    context.on("console", (message) => {
      // A status that a test provokes is told on the console, too.
      if (message.type() === "error" && !/status of 4\d\d/.test(message.text()))
        watch.faults.push(`console ${message.text().slice(0, 200)}`);
    });
    context.on("page", async (page) => {
      if (await page.opener()) watch.faults.push(`a page was opened: ${page.url()}`);
    });
    return watch;
  }

  /** What was found since it was asked last, with what stands in the page now. */
  async of(page, may = []) {
    const elements = [...ELEMENTS, ...may];
    // A handler that waits for something that fails gets time to run.
    await page.waitForTimeout(20);
    const found = await page.evaluate(strange, { elements, origin: this.origin });
    return [...this.faults.splice(0), ...found];
  }
}

/** Bytes of a page and of all that it loads, before compression. */
export function weight(page) {
  return page.evaluate(() => {
    const loaded = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
    return loaded.reduce((sum, entry) => sum + entry.decodedBodySize, 0);
  });
}

/** Serious and critical violations that axe finds; its source gets into the page by the debugger, which no policy has to allow. */
export async function axe(page, source) {
  const session = await page.context().newCDPSession(page);
  const run = async (expression) => {
    const { result, exceptionDetails } = await session.send("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  await run(`${source}; undefined`);
  const found = await run(`axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => violations
    .filter((one) => ["serious", "critical"].includes(one.impact))
    .map(({ id, help, nodes }) => id + ": " + help + " " + nodes.slice(0, 3)
      .map((node) => node.html.slice(0, 100) + " " + (node.any[0]?.message ?? "")).join(" | ")))`);
  await session.detach();
  return found;
}
