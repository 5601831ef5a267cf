// Runs in the page (so it refers to nothing outside of it): plays to the end, then seeks, and says what was seen.
//
// `whole`: first everything is buffered, then it is played; so a stall is a hole in the stream at the playhead, and not a
// machine that is busy with other things. Not `whole` (a long stream): only the seeks.
// `bits`: frames show their number as so many vertical bars (tests/recordings.py); 0: they are not looked at. `width`: the
// recording's, in pixels.
export async function watch({ rate, deadline, whole, seeks, bits, width }) {
  const video = document.getElementById("video");
  const note = () => document.getElementById("note")?.textContent ?? "";
  const errors = () => [...(window.problems ?? []), ...(video.error ? [video.error.message] : []), ...(note() ? [note()] : [])];
  const late = performance.now() + deadline;
  const until = async condition => {
    while (!condition() && !errors().length && performance.now() < late) await new Promise(done => setTimeout(done, 20));
  };
  const holds = time => {
    for (let n = 0; n < video.buffered.length; n += 1)
      if (video.buffered.start(n) <= time + 0.1 && time + 0.2 < video.buffered.end(n)) return true;
    return time + 0.2 >= video.duration;
  };

  const canvas = new OffscreenCanvas(Math.max(bits, 1), 1);
  const pencil = canvas.getContext("2d", { willReadFrequently: true });
  const number = () => {
    if (!bits || !video.videoWidth) return null;
    // In the recording the bars fill a whole number of pixels each, what is left over at the right is black; in a lower rung
    // they are smaller in proportion.
    const bar = Math.floor(width / bits) * video.videoWidth / width, row = Math.floor(video.videoHeight / 2);
    pencil.imageSmoothingEnabled = false;
    pencil.drawImage(video, 0, row, bar * bits, 1, 0, 0, bits, 1);
    const pixels = pencil.getImageData(0, 0, bits, 1).data;
    let shown = 0;
    for (let bit = 0; bit < bits; bit += 1) if (pixels[4 * bit] > 127) shown += 2 ** bit;
    return shown;
  };

  let stalls = 0, looking = false;
  const frames = [];
  video.addEventListener("waiting", () => { if (!holds(video.currentTime)) stalls += 1; });
  const look = (_, frame) => {
    if (!looking) return; // what a seek draws is looked at there
    frames.push([frame.mediaTime, number(), video.currentTime]);
    video.requestVideoFrameCallback(look);
  };
  const end = () => (video.buffered.length ? video.buffered.end(video.buffered.length - 1) : 0);
  // Until its player has placed the playhead at the start; a seek before that would be taken back.
  await until(() => end() > 0 && video.duration > 0 && video.readyState >= 2 && (window.ready?.() ?? true));
  const report = {};
  if (whole) {
    await until(() => end() > video.duration - 0.5);
    report.pieces = video.buffered.length;
    looking = bits > 0;
    video.requestVideoFrameCallback(look);
    video.muted = false;
    video.playbackRate = rate;
    video.play().catch(() => {});
    await until(() => video.ended);
    looking = false;
    report.ended = video.ended;
    report.at = video.currentTime;
    report.stalls = stalls;
  }

  // A seek is good when the right picture stands there, and when time goes on from it.
  video.playbackRate = 1;
  report.seeks = [];
  for (const target of seeks) {
    video.pause();
    let seeked = false, drawn = !video.videoWidth;
    video.addEventListener("seeked", () => { seeked = true; }, { once: true });
    video.requestVideoFrameCallback(() => { drawn = true; });
    video.currentTime = target;
    await until(() => seeked && video.readyState >= 2);
    const patience = performance.now() + 1000; // the same picture as before is not drawn anew
    await until(() => drawn || performance.now() > patience);
    const shown = number(), at = video.currentTime;
    video.play().catch(() => {});
    await until(() => video.ended || video.currentTime > target + 0.2);
    report.seeks.push({ target, at, shown, went_on: video.ended || video.currentTime > target + 0.2, buffered: holds(target) });
  }
  video.pause();
  const quality = video.getVideoPlaybackQuality();
  const cues = [...video.textTracks].flatMap(track => [...(track.cues ?? [])]);
  return {
    ...report,
    duration: video.duration,
    size: [video.videoWidth, video.videoHeight],
    frames: quality.totalVideoFrames - quality.droppedVideoFrames,
    numbers: frames,
    audio_bytes: video.webkitAudioDecodedByteCount,
    cues: cues.map(cue => [cue.startTime, cue.endTime, cue.text]),
    rungs: window.rungs?.() ?? null,
    errors: errors(),
  };
}
