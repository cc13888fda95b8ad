// The player. Options in the address, each 0 or 1: `controls` (what lies over the picture),
// `muted`, `autoplay`, `stats` (the line of figures); `protocol` is `webrtc` or `hls` where only that is
// to be used. Credentials: `token`, or `user` and `pass`.

import { byId, setText, svg } from "./dom.js";
import { watchSomehow } from "./fallback.js";
import * as format from "./format.js";
import { credentials, followStreams, listStreams, outOf, pageOf, rememberCredentials, streamOfPage } from "./streams.js";

const FOLLOW_MS = 5000;
const IDLE_MS = 2500;

const query = new URLSearchParams(location.search);
const option = (name, standard) => {
  const text = query.get(name);
  return text === null ? standard : text !== "0" && text !== "false";
};
const controls = option("controls", true);
const embedded = window.parent !== window;
const name = streamOfPage();
const video = byId("video");
const body = byId("player");

document.title = `${name} · Millstream`;
setText(byId("name"), name);
byId("top").hidden = !controls;
byId("bar").hidden = !controls;
byId("top").querySelector(".brand").hidden = embedded;
video.muted = option("muted", embedded);

// ---- watching

const states = {
  connecting: ["Connecting…", true],
  waiting: ["Waiting for the stream", true],
  interrupted: ["Coming back…", true],
  refused: ["This stream needs a password", false],
  failed: ["This stream can not be shown", false],
  stopped: ["Stopped", false],
};
let session = null;
let shown = false;
let figures = option("stats", true);

if (option("autoplay", true)) start();
else offerStart();

function start() {
  session = watchSomehow(location.origin + pageOf(name), {
    video,
    protocol: query.get("protocol") ?? "any",
    exists: async () => (await listStreams()).some((stream) => stream.name === name),
    token: credentials("read"),
    onstate,
    onstats,
    onmuted: () => (byId("unmute").hidden = false),
  });
}

function offerStart() {
  const button = byId("unmute");
  button.hidden = false;
  setText(button, "Play");
  onstate("stopped", "");
  setText(byId("headline"), name);
  button.addEventListener("click", start, { once: true });
}

function onstate(state, detail) {
  const [headline, moving] = states[state] ?? ["", true];
  const live = state === "live";
  byId("veil").hidden = live;
  byId("veil").classList.toggle("plain", !shown);
  byId("wheel").classList.toggle("still", !moving);
  byId("login").hidden = state !== "refused";
  setText(byId("headline"), headline);
  setText(byId("detail"), detailOf(state, detail));
  byId("badge").classList.toggle("live", live);
  setText(byId("badge-text"), live && detail ? `${state} · ${detail}` : state);
  if (state === "refused" && !embedded) byId("password").focus();
  if (!live) setText(byId("line"), "");
  else follow();
}

function detailOf(state, detail) {
  switch (state) {
    case "waiting":
      return `${name} is not published. The picture appears here as soon as it is.`;
    case "refused":
      return credentials("read") ? "The password or token is wrong." : "";
    case "failed":
    case "interrupted":
      return detail;
    default:
      return "";
  }
}

video.addEventListener("loadeddata", () => (shown = true));

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = byId("password").value;
  rememberCredentials("read", token);
  session?.retry({ token });
});

addEventListener("pagehide", () => session?.stop());
addEventListener("pageshow", ({ persisted }) => persisted && location.reload());

// ---- figures, and what the node says about this stream

let about = null;

function onstats(stats) {
  const parts = [
    stats.width ? `${stats.width}×${stats.height}` : "",
    stats.fps > 0 ? `${format.rate(stats.fps)} fps` : "",
    format.bitrate(stats.bitrate),
    stats.codec ? format.codec(stats.codec) : "",
    Number.isFinite(stats.delayMs) ? `${format.milliseconds(stats.delayMs)} behind the server` : "",
    Number.isFinite(about?.delay) ? `${format.milliseconds(about.delay)} processing` : "",
    stats.lost > 0 ? `${stats.lost} lost` : "",
  ];
  setText(byId("line"), parts.filter(Boolean).join(" · "));
}

let following = false;
function follow() {
  if (following) return;
  following = true;
  followStreams(FOLLOW_MS, describe);
}
listStreams().then(describe, () => {});

function describe(streams) {
  const own = streams.find((stream) => stream.name === name);
  const source = streams.find((stream) => outOf(stream.name) === name);
  about = { delay: source?.processing?.delay_ms };
  const picture = own?.webrtc?.picture_reencoded;
  const why = byId("why");
  why.hidden = !picture;
  setText(why, picture ? `Re-encoded for browsers: ${picture}` : "");
  byId("sound").hidden = own ? !own.audio : false;
  const problem = source?.processing?.problem;
  if (problem && session?.state === "waiting") setText(byId("detail"), `${source.name} is published, but not processed now: ${problem}.`);
  const counterpart = source?.name ?? (own?.processing ? outOf(name) : "");
  const other = byId("other");
  if (counterpart && !embedded && !other.firstChild) {
    const link = document.createElement("a");
    link.className = "line";
    link.href = pageOf(counterpart);
    link.textContent = source ? "source" : "processed";
    other.append(link);
  }
}

// ---- controls

const drawings = {
  loud: "M4 9.5v5h3.5l4.5 4v-13l-4.5 4zM15.5 9a4 4 0 0 1 0 6M18 6.5a7.5 7.5 0 0 1 0 11",
  mute: "M4 9.5v5h3.5l4.5 4v-13l-4.5 4zM16 9.5l5 5M21 9.5l-5 5",
  full: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  small: "M9 4v5H4M15 4v5h5M9 20v-5H4M15 20v-5h5",
  figures: "M4 20V11M10 20V4M16 20v-7M22 20H2",
};

function draw(button, drawing) {
  button.replaceChildren(svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: drawings[drawing] })));
}

function drawSound() {
  const button = byId("sound");
  draw(button, video.muted ? "mute" : "loud");
  button.setAttribute("aria-pressed", String(!video.muted));
  if (!video.muted) byId("unmute").hidden = true;
}

function toggleSound() {
  video.muted = !video.muted;
  video.play().catch(() => {});
}

byId("sound").addEventListener("click", toggleSound);
byId("unmute").addEventListener("click", () => {
  byId("unmute").hidden = true;
  setText(byId("unmute"), "Turn sound on");
  video.muted = false;
  video.play().catch(() => {});
});
video.addEventListener("volumechange", drawSound);
drawSound();

const drawFigures = () => {
  byId("line").hidden = !figures;
  byId("figures").setAttribute("aria-pressed", String(figures));
};
byId("figures").addEventListener("click", () => {
  figures = !figures;
  drawFigures();
});
draw(byId("figures"), "figures");
drawFigures();

const toggleFull = () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else if (body.requestFullscreen) body.requestFullscreen().catch(() => {});
  // iPhones only know full screen for the picture itself.
  else video.webkitEnterFullscreen?.();
};
byId("full").hidden = !document.fullscreenEnabled && !video.webkitEnterFullscreen;
byId("full").addEventListener("click", toggleFull);
video.addEventListener("dblclick", toggleFull);
document.addEventListener("fullscreenchange", () => draw(byId("full"), document.fullscreenElement ? "small" : "full"));
draw(byId("full"), "full");

addEventListener("keydown", ({ key, target, ctrlKey, metaKey, altKey }) => {
  if (ctrlKey || metaKey || altKey || target instanceof HTMLInputElement) return;
  if (key === "m") toggleSound();
  if (key === "f") toggleFull();
});

let idle = 0;
function active() {
  body.classList.remove("idle");
  clearTimeout(idle);
  idle = setTimeout(() => session?.state === "live" && body.classList.add("idle"), IDLE_MS);
}
for (const kind of ["pointermove", "pointerdown", "keydown", "focusin"]) addEventListener(kind, active);
active();
