// A page for each player. Each sets `window.problems`, to which anything that goes wrong is added, `window.rungs()`,
// the [width, height] of each rung that the player may choose from, and starts with everything buffered that it may buffer.
// `window.ready()`, where a page sets it, says whether the player has finished to load.
//
// A playhead that rests on data is a busy machine, not a fault; so the players' own clocks for that are off. What they
// would jump over is a hole: hls.js and shaka report it, dash.js stops at it and watch.mjs sees that.
import { join } from "node:path";

const HLS_JS = `
  const hls = new Hls({ maxBufferLength: buffer, startPosition: 0, detectStallWithCurrentTimeMs: 60000 });
  hls.on(Hls.Events.ERROR, (_, data) => {
    if (data.details === Hls.ErrorDetails.INTERNAL_ABORTED) return; // a seek took back what was under way
    if (data.details === Hls.ErrorDetails.BUFFER_STALLED_ERROR && data.buffer > 0.5) return; // at rest on data
    problems.push(data.details + ": " + (data.error || data.reason || ""));
  });
  // As a viewer does who turns them on: before the media is there, hls.js turns them off again.
  hls.once(Hls.Events.FRAG_BUFFERED, () => { hls.subtitleTrack = hls.subtitleTracks.length - 1; });
  window.rungs = () => hls.levels.filter(level => level.width).map(level => [level.width, level.height]);
  hls.loadSource(source);
  hls.attachMedia(video);`;

const SHAKA = `
  shaka.polyfill.installAll();
  const player = new shaka.Player();
  player.addEventListener("error", event => problems.push("error " + event.detail.code + " " + event.detail.data));
  player.addEventListener("gapjumped", () => problems.push("gap jumped"));
  player.configure({
    abr: { droppedFrames: false }, // it would take away a rung
    streaming: { bufferingGoal: buffer, bufferBehind: buffer, stallEnabled: false, retryParameters: { maxAttempts: 1 } },
  });
  window.rungs = () => player.getVariantTracks().filter(track => track.width).map(track => [track.width, track.height]);
  let loaded = false;
  window.ready = () => loaded;
  player.attach(video).then(() => player.load(source)).then(() => {
    loaded = true;
    const texts = player.getTextTracks();
    if (texts.length) player.selectTextTrack(texts[0]);
  }).catch(error => problems.push("load " + error.code + " " + error.data));`;

const DASH_JS = `
  const player = dashjs.MediaPlayer().create();
  player.updateSettings({ debug: { logLevel: 0 }, streaming: {
    gaps: { jumpGaps: false, jumpLargeGaps: false },
    buffer: { bufferTimeDefault: buffer, bufferTimeAtTopQuality: buffer, bufferTimeAtTopQualityLongForm: buffer, bufferToKeep: buffer, bufferPruningInterval: 3600 },
    retryAttempts: { MPD: 0, MediaSegment: 0, InitializationSegment: 0 } } });
  player.on(dashjs.MediaPlayer.events.ERROR, event => problems.push("error " + event.error.code + " " + event.error.message));
  player.on(dashjs.MediaPlayer.events.PLAYBACK_ERROR, event => problems.push("playback " + JSON.stringify(event.error)));
  player.on(dashjs.MediaPlayer.events.TEXT_TRACKS_ADDED, () => player.setTextTrack(0));
  window.rungs = () => player.getRepresentationsByType("video").map(rung => [rung.width, rung.height]);
  player.initialize(video, source, false);`;

export const PLAYERS = {
  "hls.js": { library: ["hls.js", "dist", "hls.min.js"], manifest: "master.m3u8", start: HLS_JS },
  "shaka HLS": { library: ["shaka-player", "dist", "shaka-player.compiled.js"], manifest: "master.m3u8", start: SHAKA },
  "shaka DASH": { library: ["shaka-player", "dist", "shaka-player.compiled.js"], manifest: "manifest.mpd", start: SHAKA },
  "dash.js": { library: ["dashjs", "dist", "modern", "umd", "dash.all.min.js"], manifest: "manifest.mpd", start: DASH_JS },
};

// Adds the page and its library to what the site serves; returns the page's address.
export async function serve(page, modules, site, name, buffer) {
  const { library, manifest, start } = PLAYERS[name];
  const body = `<!doctype html><style>body { margin: 0; background: #444 } video { max-width: 100vw; max-height: 100vh }</style>
    <video id="video"></video><script src="player-library.js"></script><script>
    window.problems = [];
    const video = document.getElementById("video"), source = "${manifest}", buffer = ${buffer};
    ${start}
  </script>`;
  await page.route("**/test-player.html", route => route.fulfill({ contentType: "text/html", body }));
  await page.route("**/player-library.js", route => route.fulfill({ path: join(modules, ...library) }));
  return `${site}test-player.html`;
}
