// node play.mjs MODULES <PLAYS: plays streams in one headless Chromium and prints what happened.
//
// PLAYS is a JSON array; each play names a `site` that serves the stream, a `player` (pages.mjs; `page` is the player
// that the site itself serves) and what watch.mjs takes. One JSON object a play is printed, in their order; the caller
// decides what is good.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import { serve } from "./pages.mjs";
import { watch } from "./watch.mjs";

const DEFAULTS = { rate: 4, deadline: 150_000, whole: true, seeks: [], bits: 0, width: 0, buffer: 600, picture: null };
//: More at once, and a page waits for a processor while its sound runs on.
const AT_ONCE = 4;
const FLAGS = [
  "--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--disable-gpu", "--mute-audio",
  // It talks to this machine and to nobody else.
  "--no-proxy-server", "--disable-background-networking", "--no-first-run", "--disable-component-update", "--disable-sync",
];

const [modules] = process.argv.slice(2);
const plays = JSON.parse(readFileSync(0, "utf8"));
const { chromium } = createRequire(join(modules, "package.json"))("playwright-core");
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
try {
  const reports = [], waiting = plays.entries();
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    for (const [number, play] of waiting) reports[number] = await played({ ...DEFAULTS, ...play });
  }));
  for (const report of reports) console.log(JSON.stringify(report));
} finally {
  await browser.close();
}

async function played({ site, player, buffer, picture, ...what }) {
  // A context of its own: pages of one share a renderer's thread, and a hidden one would be slowed down.
  const context = await browser.newContext({ viewport: { width: 480, height: 480 } });
  const page = await context.newPage();
  const errors = [], refused = [];
  page.on("pageerror", error => errors.push(String(error)));
  page.on("response", answer => { if (answer.status() >= 400) refused.push(`${answer.status()} ${answer.url()}`); });
  await page.goto(player === "page" ? site : await serve(page, modules, site, player, buffer));
  const report = await page.evaluate(watch, what);
  if (picture) await page.screenshot({ path: picture });
  await context.close();
  report.errors.push(...errors, ...refused);
  return report;
}
