// node status_page.mjs MODULES <VISITS: looks at status pages in one headless Chromium, as an operator and as a script.
//
// VISITS is a JSON array; each visit has a `site`, what the browser is like (`width`, `height`, `scheme`, `still`), what
// is done there (`keys`: used by keyboard; `cut`: the supervisor goes away and comes back) and where a
// `picture` goes. One JSON object a visit is printed.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import { contrasts } from "./contrasts.mjs";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--mute-audio",
  "--no-proxy-server",
  "--disable-background-networking",
  "--no-first-run",
  "--disable-component-update",
  "--disable-sync",
  "--autoplay-policy=no-user-gesture-required",
];
//: The scenes' (scenes.py).
const NOW = new Date("2026-11-24T10:42:00Z");
//: Roles that a screen reader announces by name, or not at all.
const NAMED = ["button", "link", "progressbar", "image", "region", "dialog", "figure", "Video", "DisclosureTriangle"];

const [modules] = process.argv.slice(2);
const { chromium } = createRequire(join(modules, "package.json"))("playwright-core");
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
try {
  for (const visit of JSON.parse(readFileSync(0, "utf8"))) console.log(JSON.stringify(await visited(visit)));
} finally {
  await browser.close();
}

async function visited({
  site,
  width = 1280,
  height = 900,
  scheme = "light",
  still = true,
  keys = false,
  cut = false,
  picture = null,
}) {
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: scheme,
    reducedMotion: still ? "reduce" : "no-preference",
    locale: "en-GB",
    timezoneId: "UTC",
  });
  const page = await context.newPage();
  await page.clock.setFixedTime(NOW);
  const errors = [],
    requests = [];
  page.on("pageerror", error => errors.push(String(error)));
  page.on("console", message => {
    if (["error", "warning"].includes(message.type())) errors.push(message.text());
  });
  page.on("request", request => requests.push([request.method(), request.url()]));
  await page.goto(site);
  await page.waitForFunction(() => document.querySelector("#slots li") && document.querySelector("#plot svg"));
  // Posters beyond the fold are fetched when they are scrolled to.
  await page.evaluate(() => {
    for (const image of document.images) image.loading = "eager";
  });
  await page.waitForFunction(() => [...document.images].every(image => image.complete));
  const report = {
    title: await page.title(),
    text: await page.evaluate(() => document.body.innerText),
    contrasts: await page.evaluate(contrasts),
    overflow: await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth),
    animations: await page.evaluate(() => document.getAnimations().length),
    landmarks: await page.evaluate(() =>
      [...document.querySelectorAll("h1, h2, h3")].filter(it => it.checkVisibility()).map(it => it.localName),
    ),
    unnamed: await unnamed(page),
  };
  if (picture) await page.screenshot({ path: picture, fullPage: true });
  if (keys) report.keys = await used(page);
  report.errors = [...errors];
  if (cut) report.cut = await severed(context, page);
  await context.close();
  return { ...report, requests };
}

// What the accessibility tree has no name for.
async function unnamed(page) {
  const session = await page.context().newCDPSession(page);
  const { nodes } = await session.send("Accessibility.getFullAXTree");
  return nodes
    .filter(node => !node.ignored && NAMED.includes(node.role?.value) && !node.name?.value)
    .map(node => node.role.value);
}

// By keyboard alone: where Tab goes and whether that is seen, a receipt, the plot, the player.
async function used(page) {
  const focus = () =>
    page.evaluate(() => {
      const it = document.activeElement;
      if (!it || it === document.body) return null;
      return [it.id || it.getAttribute("aria-label") || it.textContent, getComputedStyle(it).outlineStyle !== "none"];
    });
  const order = [];
  for (let n = 0; n < 60; n += 1) {
    await page.keyboard.press("Tab");
    const found = await focus();
    if (!found || order.some(([name]) => name === found[0])) break;
    order.push(found);
  }
  const said = { order };
  await page.locator("#plot").focus();
  await page.keyboard.press("ArrowLeft");
  said.reading = await page.locator("#reading").textContent();
  await page.keyboard.press("Escape");
  const receipt = page.locator("summary").first();
  if (await receipt.count()) {
    await receipt.focus();
    await page.keyboard.press("Enter");
    said.receipt = await page.locator("details[open] dl").first().innerText();
    said.contrasts = await page.evaluate(contrasts);
    await page.waitForResponse(/status.json/);
    await page.waitForResponse(/status.json/); // by now the first of them is shown
    said.kept = await page.evaluate(
      () => document.activeElement.parentElement.open && document.activeElement.localName,
    );
  }
  const play = page.locator("button.poster").first();
  if (await play.count()) {
    await play.focus();
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelector("dialog[open] video")?.readyState >= 2);
    said.player = await page.evaluate(() => [
      document.querySelector("dialog h2").textContent,
      document.querySelector("dialog video").videoWidth > 0,
    ]);
    await page.keyboard.press("Escape");
    await page.waitForSelector("dialog video:not([src])", { state: "attached" }); // "close" comes a task later
    said.closed = await page.evaluate(() => [
      document.querySelector("dialog").open,
      document.querySelector("dialog video").hasAttribute("src"),
    ]);
  }
  return said;
}

// What stands there while the supervisor does not answer, and after.
async function severed(context, page) {
  const look = () =>
    page.evaluate(() => [
      document.querySelector("#state").textContent,
      document.querySelector("#banner").innerText,
      document.title,
    ]);
  await context.setOffline(true);
  await page.waitForSelector("body[data-old]");
  const gone = await look(),
    slots = await page.locator("#slots li").count(),
    poor = (await page.evaluate(contrasts)).poor;
  await context.setOffline(false);
  await page.waitForSelector("body:not([data-old])");
  return { gone, slots, poor, back: await look() };
}
