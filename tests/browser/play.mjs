// node play.mjs MODULES SITE [hls.js | page]: plays SITE/master.m3u8 to its end in headless Chromium and prints what happened.
//
// `hls.js` is how platforms play it; `page` is the player that SITE itself serves. The report is one JSON object; the
// caller decides what is good.
import { createRequire } from "node:module";
import { join } from "node:path";

const RATE = 4;
const DEADLINE_MS = 60_000;
const FLAGS = [
  "--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--disable-gpu", "--mute-audio",
  // It talks to this machine and to nobody else.
  "--no-proxy-server", "--disable-background-networking", "--no-first-run", "--disable-component-update", "--disable-sync",
];

const [modules, site, player] = process.argv.slice(2);
const require = createRequire(join(modules, "package.json"));
const { chromium } = require("playwright-core");

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
try {
  const page = await browser.newPage();
  const errors = [], refused = [];
  page.on("pageerror", error => errors.push(String(error)));
  page.on("response", answer => { if (answer.status() >= 400) refused.push(`${answer.status()} ${answer.url()}`); });
  if (player === "hls.js") await serveHlsJs(page);
  await page.goto(player === "hls.js" ? `${site}with-hls.js` : site);
  const report = await page.evaluate(watch, { rate: RATE, deadline: DEADLINE_MS });
  report.errors.push(...errors, ...refused);
  console.log(JSON.stringify(report));
} finally {
  await browser.close();
}

async function serveHlsJs(page) {
  const body = `<!doctype html><video id="video"></video><script src="hls.js"></script><script>
    window.problems = [];
    // A playhead that rests on data is a busy machine; holes are found below, and hls.js reports that it jumps over them.
    const hls = new Hls({ maxBufferLength: 600, startPosition: 0, detectStallWithCurrentTimeMs: 60000 });
    hls.on(Hls.Events.ERROR, (_, data) => window.problems.push(data.details + ": " + (data.error || data.reason || "")));
    hls.on(Hls.Events.MANIFEST_PARSED, (_, data) => { window.levels = data.levels.length; });
    hls.loadSource("master.m3u8");
    hls.attachMedia(document.getElementById("video"));
  </script>`;
  await page.route("**/with-hls.js", route => route.fulfill({ contentType: "text/html", body }));
  await page.route("**/hls.js", route => route.fulfill({ path: join(modules, "hls.js", "dist", "hls.min.js") }));
}

// Runs in the page. First everything is buffered, then it is played: so a stall is a hole in the stream at the playhead,
// and not a machine that is busy with other things.
async function watch({ rate, deadline }) {
  const video = document.getElementById("video");
  const note = () => document.getElementById("note")?.textContent ?? "";
  const errors = () => [...(window.problems ?? []), ...(video.error ? [video.error.message] : []), ...(note() ? [note()] : [])];
  const late = performance.now() + deadline;
  const until = async condition => {
    while (!condition() && !errors().length && performance.now() < late) await new Promise(done => setTimeout(done, 50));
  };
  const holds = time => {
    for (let n = 0; n < video.buffered.length; n += 1)
      if (video.buffered.start(n) <= time + 0.1 && time + 0.2 < video.buffered.end(n)) return true;
    return time + 0.2 >= video.duration;
  };
  let stalls = 0;
  video.addEventListener("waiting", () => { if (!holds(video.currentTime)) stalls += 1; });
  await until(() => video.buffered.length && video.buffered.end(video.buffered.length - 1) > video.duration - 0.5);
  const pieces = video.buffered.length;
  video.muted = false;
  video.playbackRate = rate;
  video.play().catch(() => {});
  await until(() => video.ended);
  const quality = video.getVideoPlaybackQuality();
  return {
    ended: video.ended,
    at: video.currentTime,
    pieces,
    stalls,
    frames: quality.totalVideoFrames - quality.droppedVideoFrames,
    audio_bytes: video.webkitAudioDecodedByteCount,
    levels: window.levels ?? null,
    errors: errors(),
  };
}
