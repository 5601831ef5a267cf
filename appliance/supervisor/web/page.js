"use strict";
// Shows status.json, again and again; changes nothing anywhere. Its fields are described in shape.py beside this file.

const REFRESH = 2000,
  REFRESH_HIDDEN = 15000,
  PATIENCE = 5000;
//: From the tick's own rhythm: older than this is worth a word.
const OLD_SECONDS = 45;
const at = id => document.getElementById(id);

// ---- words ----------------------------------------------------------------------------------------------------------

const known = value => value !== null && value !== undefined;
const seconds = s =>
  !known(s)
    ? "–"
    : s < 90
      ? `${Math.round(s)} s`
      : s < 5400
        ? `${Math.round(s / 60)} min`
        : s < 172800
          ? `${(s / 3600).toFixed(1)} h`
          : `${Math.round(s / 86400)} days`;
const two = n => String(Math.floor(n)).padStart(2, "0");
const length = s =>
  !known(s)
    ? "–"
    : s >= 3600
      ? `${Math.floor(s / 3600)}:${two((s % 3600) / 60)}:${two(s % 60)}`
      : `${Math.floor(s / 60)}:${two(s % 60)}`;
const bytes = b =>
  !known(b)
    ? "–"
    : b >= 1e9
      ? `${(b / 1e9).toFixed(1)} GB`
      : b >= 1e6
        ? `${(b / 1e6).toFixed(1)} MB`
        : `${Math.ceil(b / 1e3)} kB`;
const pace = x => (known(x) ? `${x.toFixed(x < 10 ? 1 : 0)}×` : "–");
const count = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;
const clock = (unix, full) =>
  new Date(1000 * unix).toLocaleTimeString([], full ? {} : { hour: "2-digit", minute: "2-digit" });
const whose = (host, slot, here) => [here ? "here" : host, known(slot) ? `slot ${slot}` : ""].filter(Boolean).join(" ");

// ---- elements -------------------------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes))
    if (known(value) && value !== false) element.setAttribute(name, value === true ? "" : value);
  element.append(...children.flat().filter(child => known(child) && child !== false && child !== ""));
  return element;
}
const make = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
const draw = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);
const pill = (is, word) => make("span", { class: "pill", "data-is": is }, word);
const facts = (pairs, row) =>
  pairs
    .filter(([, value]) => known(value) && value !== "")
    .map(([name, value]) => make("div", { class: row ? "row" : null }, make("dt", {}, name), make("dd", {}, value)));

const FOCUSABLE = "summary, button, a";
// Replaces only what changed, so that focus, an open receipt and a reader's place stay where they are.
function show(parent, items, key, build) {
  const before = new Map([...parent.children].map(child => [child.dataset.key, child]));
  const children = items.map(item => {
    const name = String(key(item)),
      text = JSON.stringify(item),
      old = before.get(name);
    if (old && old.dataset.text === text) return old;
    const node = build(item);
    node.dataset.key = name;
    node.dataset.text = text;
    if (old?.querySelector("details")?.open) node.querySelector("details")?.setAttribute("open", "");
    const focused = old ? [...old.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement) : -1;
    if (focused >= 0) queueMicrotask(() => node.querySelectorAll(FOCUSABLE)[focused]?.focus());
    return node;
  });
  if (children.length !== parent.children.length || children.some((child, n) => parent.children[n] !== child))
    parent.replaceChildren(...children);
}
const say = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

// ---- parts of the page ----------------------------------------------------------------------------------------------

function encoder(s) {
  const working = known(s.video_id),
    title = `Slot ${s.slot}`;
  const what = working ? `Video ${s.video_id}${known(s.tenant_id) ? ` of tenant ${s.tenant_id}` : ""}` : "";
  const step =
    s.role === "assist"
      ? `helps with chunk ${s.chunk ?? "?"}`
      : [s.step, known(s.chunk) ? `chunk ${s.chunk}` : ""].filter(Boolean).join(", ");
  const percent = known(s.percent) ? Math.floor(s.percent) : null;
  const leaves = known(s.leaves_in_seconds)
    ? `may take ${seconds(s.leaves_in_seconds)} more`
    : `for ${seconds(s.since_seconds)}`;
  return make(
    "li",
    { class: "card" },
    make("div", { class: "head" }, make("h3", {}, title), pill(s.state, s.state)),
    make(
      "p",
      { class: "what" },
      working ? what : make("span", { class: "dim" }, leaves),
      working &&
        make("span", { class: "dim" }, ` · ${step || "starts"}${s.state === "draining" ? ` · ${leaves}` : ""}`),
    ),
    working &&
      make(
        "div",
        { class: "progress" },
        make("progress", { max: 100, value: percent, "aria-label": `${title}, video ${s.video_id}` }),
        make("span", {}, known(percent) ? `${percent} %` : "–"),
      ),
    working &&
      make(
        "dl",
        {},
        facts([
          ["speed", pace(s.speed)],
          ["elapsed", seconds(s.elapsed_seconds)],
          ["left", seconds(s.remaining_seconds)],
        ]),
      ),
    s.restarts > 0 && make("p", { class: "warn" }, `${count(s.restarts, "restart")} in a row`),
  );
}

function chunkMap(m) {
  const done = m.chunks.filter(c => c.state === "DONE").length,
    running = m.chunks.filter(c => c.state === "RUNNING");
  const helped = m.chunks.filter(c => c.state === "DONE" && c.assisted).length;
  const by = running.map(c => `${c.number}: ${whose(c.host, c.slot, c.here)}${c.assisted ? " (helps)" : ""}`);
  const line =
    `${done} of ${m.chunks.length} done${helped ? `, ${helped} by helpers` : ""}; ` +
    (by.length ? `running ${by.join(", ")}; ` : "") +
    `${m.chunks.length - done - running.length} to do`;
  const cell = c =>
    make(
      "span",
      {
        class: `cell ${c.state === "DONE" ? "done" : c.state === "TODO" ? "todo" : c.here ? "here" : "away"}`,
        title: [`chunk ${c.number}`, c.state === "TODO" ? "to do" : c.state.toLowerCase(), whose(c.host, c.slot, c.here)]
          .filter(Boolean)
          .join(", "),
      },
      c.state === "RUNNING" && known(c.slot) && String(c.slot),
    );
  return make(
    "div",
    { class: "map" },
    make("h3", {}, `Video ${m.video_id}`),
    make("div", { class: "cells", "aria-hidden": "true" }, m.chunks.map(cell)),
    make("p", { class: "dim" }, line),
  );
}

function video(v) {
  const r = v.receipt,
    ended = known(v.ended_at),
    outcome = v.outcome ?? "running";
  const chunks = ["encoded", "assisted", "resumed", "redone"]
    .filter(how => r[`chunks_${how}`])
    .map(how => `${r[`chunks_${how}`]} ${how}`)
    .join(", ");
  const figures = [
    ["took", seconds(r.wall_seconds)],
    ["CPU", seconds(r.cpu_seconds)],
    ["memory", bytes(r.peak_memory_bytes)],
    ["source", bytes(r.source_bytes)],
    ["stream", bytes(r.bytes_out)],
    ["rungs", (r.rungs ?? []).join(", ")],
    ["chunks", chunks || r.chunks_total],
    ["attempt", v.attempt],
    ["by", v.worker],
    ["warnings", r.warnings || null],
  ];
  const play =
    v.master &&
    make(
      "button",
      { class: v.poster ? "poster" : null, type: "button", "aria-label": `Play video ${v.video_id}` },
      v.poster ? make("img", { src: v.poster, alt: "", loading: "lazy" }) : "Play",
    );
  play?.addEventListener("click", () => watch(v));
  play?.querySelector("img")?.addEventListener("error", event => {
    event.target.hidden = true;
  });
  const time =
    known(v.ended_at ?? v.started_at) &&
    make(
      "time",
      { class: "when dim", datetime: new Date(1000 * (v.ended_at ?? v.started_at)).toISOString() },
      `${ended ? "" : "since "}${clock(v.ended_at ?? v.started_at)}`,
    );
  return make(
    "li",
    { class: v.poster ? "video" : "video plain" },
    v.poster && play,
    make(
      "div",
      { class: "body" },
      make(
        "div",
        { class: "line" },
        make("h3", {}, `Video ${v.video_id}`),
        pill(outcome === "ready" ? "ready" : outcome, outcome),
        known(v.tenant_id) && make("span", { class: "dim" }, `tenant ${v.tenant_id}`),
        known(r.media_seconds) && make("span", {}, length(r.media_seconds)),
        known(v.speed) && make("span", {}, `at ${pace(v.speed)}`),
        !v.poster && play,
        time,
      ),
      v.error_reason &&
        make(
          "p",
          { class: outcome === "failed" ? "why bad" : "why warn" },
          v.error_reason,
          v.error_code && ` (${v.error_code})`,
        ),
      ended &&
        known(r.wall_seconds) &&
        make(
          "details",
          {},
          make("summary", { "aria-label": `Receipt of video ${v.video_id}, attempt ${v.attempt}` }, "Receipt"),
          make("dl", { class: "facts" }, facts(figures)),
        ),
    ),
  );
}

function dependency([name, d]) {
  const is = known(d.up) ? (d.up ? "up" : "down") : "unknown";
  return make(
    "li",
    {},
    make(
      "div",
      { class: "row" },
      make("strong", {}, name),
      make("span", { class: "dim" }, known(d.since_seconds) ? `for ${seconds(d.since_seconds)}` : ""),
      pill(is, is === "unknown" ? "not asked" : is),
    ),
    d.error && make("small", { class: "bad" }, d.error),
    d.hint && make("small", {}, d.hint),
    d.seen_by.length > 0 && make("small", { class: "dim" }, `seen by ${d.seen_by.join(", ")}`),
  );
}

const host = h =>
  make(
    "li",
    { class: "row" },
    make("span", {}, make("strong", {}, h.host), h.here && make("span", { class: "dim" }, " this host")),
    make(
      "span",
      {},
      h.busy ? `${h.busy} busy` : "idle",
      known(h.seen_seconds) && !h.busy && make("span", { class: "dim" }, ` · last job ${seconds(h.seen_seconds)} ago`),
    ),
  );

// ---- the plot -------------------------------------------------------------------------------------------------------

let samples = [],
  chosen = null;
const reading = ([when, uploaded, processing, busy]) =>
  `${clock(when)}: ` +
  (known(uploaded)
    ? `${uploaded} waiting, ${processing} in work, ${busy} busy here`
    : `the database did not say, ${busy} busy here`);

function plot() {
  const box = at("plot"),
    width = box.clientWidth,
    height = box.clientHeight;
  if (!width || !samples.length) return;
  const left = 26,
    bottom = height - 18,
    top = 8,
    from = samples[0][0],
    to = Math.max(samples.at(-1)[0], from + 60);
  const most = Math.max(4, ...samples.map(([, u, p, b]) => Math.max((u ?? 0) + (p ?? 0), b)));
  const x = when => left + ((width - left - 4) * (when - from)) / (to - from),
    y = n => bottom - ((bottom - top) * n) / most;
  const runs = [[]];
  for (const sample of samples)
    if (known(sample[1])) runs.at(-1).push(sample);
    else if (runs.at(-1).length) runs.push([]);
  const area = (run, low, high) => {
    const points = run.length > 1 ? run : [run[0], [run[0][0] + 1, ...run[0].slice(1)]];
    return `M${points.map(s => `${x(s[0]).toFixed(1)} ${y(high(s)).toFixed(1)}`).join("L")}L${[...points]
      .reverse()
      .map(s => `${x(s[0]).toFixed(1)} ${y(low(s)).toFixed(1)}`)
      .join("L")}Z`;
  };
  const gaps = samples.flatMap((s, n) =>
    known(s[1])
      ? []
      : [
          draw("rect", {
            class: "unknown",
            x: x(s[0]) - 1,
            y: top,
            height: bottom - top,
            width: Math.max(2, x(samples[n + 1]?.[0] ?? to) - x(s[0]) + 1),
          }),
        ],
  );
  const drawn = runs
    .filter(run => run.length)
    .flatMap(run => [
      draw("path", {
        class: "working",
        d: area(
          run,
          () => 0,
          s => s[2],
        ),
      }),
      draw("path", {
        class: "waiting",
        d: area(
          run,
          s => s[2],
          s => s[1] + s[2],
        ),
      }),
    ]);
  const busy = draw("path", {
    class: "busy",
    d: `M${samples.map(s => `${x(s[0]).toFixed(1)} ${y(s[3]).toFixed(1)}`).join("L")}`,
  });
  const text = (words, where) => draw("text", where, words);
  const lines = [0, most].flatMap(n => [
    draw("line", { class: "axis", x1: left, x2: width, y1: y(n), y2: y(n) }),
    text(String(n), { x: left - 5, y: y(n) + 4, "text-anchor": "end" }),
  ]);
  const times = [
    text(clock(from), { x: left, y: height - 4 }),
    text(clock(to), { x: width - 2, y: height - 4, "text-anchor": "end" }),
  ];
  const cursor =
    known(chosen) &&
    samples[chosen] &&
    draw("line", { class: "cursor", x1: x(samples[chosen][0]), x2: x(samples[chosen][0]), y1: top, y2: bottom });
  const whole = `The last ${seconds(to - from)}: at most ${most} videos. ${reading(samples.at(-1))}`;
  box.replaceChildren(
    draw(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": whole },
      gaps,
      lines,
      drawn,
      busy,
      times,
      cursor,
    ),
  );
  say(at("reading"), reading(samples[chosen] ?? samples.at(-1)));
}

function choose(n) {
  chosen = known(n) ? Math.max(0, Math.min(samples.length - 1, n)) : null;
  plot();
}
at("plot").addEventListener("pointermove", event => {
  const box = at("plot").getBoundingClientRect(),
    first = samples[0]?.[0],
    last = samples.at(-1)?.[0];
  const when = first + ((last - first) * (event.clientX - box.left - 26)) / (box.width - 30);
  const nearest = samples.reduce(
    (best, s, n) => (Math.abs(s[0] - when) < Math.abs(samples[best][0] - when) ? n : best),
    0,
  );
  choose(nearest);
});
at("plot").addEventListener("pointerleave", () => choose(null));
at("plot").addEventListener("keydown", event => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) choose((chosen ?? (step < 0 ? samples.length - 1 : -1)) + step);
  else if (event.key === "Escape") choose(null);
  else return;
  event.preventDefault();
});
new ResizeObserver(plot).observe(at("plot"));

// ---- the player -----------------------------------------------------------------------------------------------------

const player = at("player"),
  screen = player.querySelector("video");
function watch(v) {
  say(at("h-player"), `Video ${v.video_id}`);
  const plays = screen.canPlayType("application/vnd.apple.mpegurl");
  screen.hidden = !plays;
  at("player-note").replaceChildren(
    plays ? "" : "This browser does not play HLS by itself. ",
    make("a", { href: v.master }, "Address of the stream"),
  );
  if (v.poster) screen.poster = v.poster;
  if (plays) screen.src = v.master;
  player.showModal();
}
player.addEventListener("close", () => {
  for (const name of ["src", "poster"]) screen.removeAttribute(name);
  screen.load();
});

// ---- the whole ------------------------------------------------------------------------------------------------------

let answeredAt = null,
  failure = "",
  last = null;

function notices(s) {
  const found = [];
  if (failure)
    found.push([
      "bad",
      `The supervisor does not answer (${failure}). ` +
        (answeredAt ? `What stands below is from ${clock(answeredAt / 1000, true)}.` : "Nothing is known yet."),
    ]);
  if (!s) return found;
  if (known(s.stuck_seconds)) found.push(["bad", "The supervisor's main loop stands still: what stands below is old."]);
  // Seconds would make a reader speak at every refresh.
  const steady = text => text.replace(/ for \d+ s(?=;|$)/, "");
  const reasons = s.unready.filter(text => !s.draining || text !== "no encoder is running"); // they leave as told
  found.push(
    ...reasons.map(text => [s.draining ? "warn" : "bad", steady(text)]),
    ...Object.values(s.notices).map(text => ["warn", text]),
  );
  const gone = Object.entries(s.sandbox)
    .filter(([, holds]) => !holds)
    .map(([name]) => name);
  if (gone.length) found.push(["warn", `This host's kernel lacks a layer of ffmpeg's cage: ${gone.join(", ")}.`]);
  return found;
}

function frame() {
  const s = last,
    list = notices(s),
    old = Boolean(failure || known(s?.stuck_seconds));
  document.body.toggleAttribute("data-old", old);
  show(
    at("banner"),
    list,
    ([, text]) => text,
    ([kind, text]) => make("p", { class: `notice ${kind}` }, text),
  );
  const state = failure
    ? ["bad", "no answer"]
    : !s
      ? ["unknown", "waiting for an answer"]
      : known(s.stuck_seconds)
        ? ["bad", "stuck"]
        : s.draining
          ? ["draining", "draining"]
          : s.unready.length
            ? ["bad", "not ready"]
            : ["ready", "ready"];
  at("state").dataset.is = state[0];
  say(at("state"), state[1]);
  say(at("fresh"), answeredAt ? `as of ${clock(answeredAt / 1000, true)}` : "");
  const busy = s?.slots.filter(slot => known(slot.video_id)).length ?? 0;
  document.title =
    (state[0] === "ready" || !s ? "" : `${state[1]} · `) +
    (s ? `${busy}/${s.slots.length} busy · ${s.backlog?.UPLOADED ?? "?"} waiting · ${s.host}` : "video appliance");
}

function figures(s) {
  const speeds = s.slots.map(slot => slot.speed).filter(known);
  const list = [
    ["waiting", s.backlog?.UPLOADED ?? "–"],
    ["in work", s.backlog?.PROCESSING ?? "–"],
    ["oldest waits", s.backlog ? seconds(s.oldest_due_seconds) : "–"],
    ["pace here", speeds.length ? pace(speeds.reduce((a, b) => a + b)) : "–"],
  ];
  at("figures").replaceChildren(...facts(list));
  say(
    at("backlog-age"),
    !s.backlog
      ? "not known yet"
      : s.backlog_age_seconds > OLD_SECONDS
        ? `as of ${seconds(s.backlog_age_seconds)} ago`
        : "",
  );
}

function about(s) {
  const layers =
    Object.entries(s.sandbox)
      .map(([name, holds]) => `${name} ${holds ? "✓" : "✗"}`)
      .join(", ") || "not tried";
  at("about").replaceChildren(
    ...facts(
      [
        ["version", s.version],
        ["up", seconds(s.uptime_seconds)],
        ["drain", s.draining ? "under way: no new work is taken" : "no"],
        ...(known(s.protected) ? [["scale-in", s.protected ? "protected" : "may choose this host"]] : []),
        ["ffmpeg's cage", layers],
        [
          "encoders",
          `${s.slots.length}, ${count(
            s.slots.reduce((sum, slot) => sum + slot.restarts, 0),
            "restart",
          )}`,
        ],
      ],
      true,
    ),
  );
}

function render(s) {
  say(at("host"), s.host);
  figures(s);
  const states = s.slots.map(slot => slot.state);
  say(
    at("encoders-note"),
    [...new Set(states)].map(state => `${states.filter(it => it === state).length} ${state}`).join(", ") || "none",
  );
  show(at("slots"), s.slots, slot => slot.slot, encoder);
  show(at("maps"), s.chunk_maps, m => m.video_id, chunkMap);
  document.querySelector(".maps").hidden = !s.chunk_maps.length;
  show(
    at("recent"),
    s.recent.length ? s.recent : [null],
    v => (v ? `${v.video_id}-${v.attempt}` : "none"),
    v => (v ? video(v) : make("li", { class: "dim" }, known(s.seen_age_seconds) ? "none yet" : "not known yet")),
  );
  show(at("dependencies"), Object.entries(s.dependencies), ([name]) => name, dependency);
  show(
    at("fleet"),
    s.fleet.length ? s.fleet : [null],
    h => h?.host ?? "none",
    h => (h ? host(h) : make("li", { class: "dim" }, "not known yet")),
  );
  about(s);
  const old = s.seen_age_seconds > OLD_SECONDS ? `as of ${seconds(s.seen_age_seconds)} ago` : "";
  for (const element of document.querySelectorAll(".age")) say(element, old);
  samples = s.history;
  plot();
}

let timer = 0;
async function refresh() {
  clearTimeout(timer);
  try {
    const answer = await fetch("status.json", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error(`it said ${answer.status}`);
    last = await answer.json();
    answeredAt = Date.now();
    failure = "";
    render(last);
  } catch (error) {
    // The page's own mistakes are for the console; whatever it shows is then old as well.
    if (!(error instanceof TypeError || error instanceof DOMException)) console.error(error);
    failure = error.name === "TimeoutError" ? "too slow" : error instanceof TypeError ? "no connection" : error.message;
  }
  frame();
  clearTimeout(timer);
  timer = setTimeout(refresh, document.hidden ? REFRESH_HIDDEN : REFRESH);
}
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
refresh();
