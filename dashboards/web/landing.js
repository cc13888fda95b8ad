// The landing page: what is live, how to watch it, how to publish.

import { byId, copyLine, el, keep, setText } from "./dom.js";
import * as format from "./format.js";
import { followStreams, nodeFacts, outOf, pageOf, paired, viewersOf } from "./streams.js";

const EVERY_MS = 2000;
const host = location.hostname;
const node = await nodeFacts();

setText(byId("version"), node.version ? `version ${node.version}` : "");

// ---- streams

let before = new Map();

followStreams(
  EVERY_MS,
  (streams) => {
    const pairs = paired(streams);
    keep(byId("streams"), pairs, ({ name }) => name, card);
    byId("empty").hidden = pairs.length > 0;
    byId("count").hidden = pairs.length === 0;
    setText(byId("count"), String(pairs.length));
    setText(byId("state"), "");
    before = new Map(streams.map((stream) => [stream.name, { at: performance.now(), stream }]));
  },
  () => setText(byId("state"), "The node does not answer. Trying again…"),
);

/** A card for a published stream and what became of it. */
function card({ name }) {
  const title = el("h2", { textContent: name, className: "card-title" });
  const status = el("span", { className: "tag good" }, el("span", { className: "dot good" }), "live");
  const tags = el("div", { className: "tags" });
  const note = el("p", { className: "note warn", hidden: true });
  const watch = el("a", { className: "button primary", href: pageOf(outOf(name)), textContent: "Watch processed" });
  const source = el("a", { className: "button", href: pageOf(name), textContent: "Watch source" });
  const facts = el("p", { className: "muted small figures" });
  const links = el("details", {}, el("summary", { textContent: "Links for players" }), linksOf(name));
  const node = el(
    "article",
    { className: "card panel" },
    el("div", { className: "card-head" }, title, status),
    tags,
    facts,
    note,
    el("div", { className: "actions" }, watch, source),
    links,
  );
  const update = ({ source: raw, processed }) => {
    const shown = raw ?? processed;
    keep(tags, tagsOf(raw, processed), (text) => text, (text) => ({
      node: el("span", { className: "tag", textContent: text }),
      update() {},
    }));
    watch.hidden = !processed && !raw?.processing;
    source.hidden = !raw;
    source.classList.toggle("primary", watch.hidden);
    setText(facts, factsOf(shown, raw, processed));
    const why = reason(raw, processed);
    note.hidden = !why;
    setText(note, why);
  };
  return { node, update };
}

function tagsOf(raw, processed) {
  const stream = raw ?? processed;
  const tags = [raw ? protocolName(raw.protocol) : ""];
  if (stream.video) tags.push(`${format.codec(stream.video.codec)} ${stream.video.width}×${stream.video.height}`);
  if (stream.audio) tags.push(format.codec(stream.audio.codec));
  return tags.filter(Boolean);
}

function protocolName(protocol) {
  const names = { rtmp: "RTMP", rtmps: "RTMPS", webrtc: "WebRTC", srt: "SRT", rtsp: "RTSP", rtsps: "RTSPS", hls: "HLS" };
  return protocol === "demo" ? "Test picture" : (names[protocol] ?? protocol);
}

function factsOf(stream, raw, processed) {
  const viewers = viewersOf({ source: raw, processed });
  const parts = [`since ${format.duration((Date.now() - stream.since_ms) / 1000)}`];
  const earlier = before.get(stream.name);
  if (earlier && stream.bytes >= earlier.stream.bytes) {
    const seconds = (performance.now() - earlier.at) / 1000;
    parts.push(format.bitrate(((stream.bytes - earlier.stream.bytes) * 8) / seconds));
  }
  if (viewers > 0) parts.push(`${viewers} watching`);
  const delay = raw?.processing?.delay_ms;
  if (Number.isFinite(delay)) parts.push(`processed in ${format.milliseconds(delay)}`);
  return parts.join(" · ");
}

/** Why something is not as it could be. */
function reason(raw, processed) {
  if (raw?.processing?.problem) return `Not processed now: ${raw.processing.problem}.`;
  const why = [raw, processed].map((stream) => stream?.webrtc?.picture_reencoded).find(Boolean);
  return why ? `Re-encoded for browsers: ${why}.` : "";
}

function linksOf(name) {
  const out = outOf(name);
  const at = (port, form) => (port ? form(port) : "");
  const rtmp = at(node.rtmp_port, (port) => `rtmp://${host}:${port}/${out}`);
  const srt = at(node.srt_port, (port) => `srt://${host}:${port}?streamid=read:${out}`);
  const rtsp = at(node.rtsp_port, (port) => `rtsp://${host}:${port}/${out}`);
  const hls = node.hls ? new URL(pageOf(out, "index.m3u8"), location.href).href : "";
  const lines = [
    ["Page", new URL(pageOf(out), location.href).href],
    ["WHEP", new URL(pageOf(out, "whep"), location.href).href],
    ["HLS", hls],
    ["RTMP", rtmp],
    ["SRT", srt],
    ["RTSP", rtsp],
    ["FFplay", rtmp && `ffplay -fflags nobuffer -flags low_delay ${rtmp}`],
  ];
  return el("div", {}, ...lines.filter(([, text]) => text).map(([label, text]) => copyLine(label, text)));
}

// ---- publishing

const name = byId("name");
name.addEventListener("input", recipes);
byId("publish-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = wanted();
  if (text) location.href = pageOf(text, "publish");
});
recipes();

/** The name, or "" with a note when it cannot be one. */
function wanted() {
  const text = name.value.trim().replace(/^\/+|\/+$/g, "");
  const form = /^[A-Za-z0-9._~-]+(\/[A-Za-z0-9._~-]+)*$/.test(text);
  const problem = !text
    ? "A stream needs a name."
    : !form
      ? "A name may hold letters, digits and . _ ~ - in parts joined by /."
      : text.endsWith("-out")
        ? "Names ending in -out belong to processed streams."
        : "";
  const note = byId("name-note");
  note.hidden = !problem;
  setText(note, problem);
  name.setAttribute("aria-invalid", String(Boolean(problem)));
  return problem ? "" : text;
}

function recipes() {
  const text = wanted();
  byId("browser").disabled = !text;
  if (!text) return;
  const { rtmp_port: port, srt_port, rtsp_port } = node;
  const user = node.publish_needs_password ? "?user=USER&pass=PASSWORD" : "";
  const srt = `srt://${host}:${srt_port}?streamid=publish:${text}${user && ":USER:PASSWORD"}`;
  const rtsp = `rtsp://${user && "USER:PASSWORD@"}${host}:${rtsp_port}/${text}`;
  const whip = new URL(pageOf(text, "whip"), location.href).href;
  const rtmp = `rtmp://${host}:${port}/${text}${user}`;
  const ffmpeg = `ffmpeg -re -i clip.mp4 -c:v libx264 -tune zerolatency -pix_fmt yuv420p -g 60 -c:a aac -f flv "${rtmp}"`;
  byId("recipes").replaceChildren(
    recipe("OBS", "Settings → Stream → Custom. The stream key stays empty.", port && copyLine("Server", rtmp)),
    recipe("FFmpeg", "", port && copyLine("Command", ffmpeg)),
    recipe("WHIP clients", "OBS 30 and newer, GStreamer, FFmpeg 8 and newer.", copyLine("Endpoint", whip)),
    recipe("SRT encoders", "MPEG-TS with H.264 or HEVC.", srt_port && copyLine("Address", srt)),
    recipe("RTSP", "Announced over TCP or UDP.", rtsp_port && copyLine("Address", rtsp)),
  );
}

function recipe(title, text, line) {
  if (!line) return "";
  return el("div", { className: "recipe" }, el("h3", { textContent: title }), text ? el("p", { className: "muted small", textContent: text }) : null, line);
}

// ---- a phone can only open what is not this machine's own name

const own = host === "localhost" || host === "[::1]" || host.startsWith("127.");
byId("phone").hidden = false;
if (own) {
  byId("qr").hidden = true;
  const option = el("code", { textContent: "--public", className: "nowrap" });
  byId("phone-text").replaceChildren("The node listens on this machine only. Start it with ", option, ", then open this page by the machine's address.");
} else {
  // Cameras need https, and the same port answers both.
  const address = `https://${location.host}/`;
  byId("qr").src = `/assets/qr.svg?address=${encodeURIComponent(address)}`;
  setText(byId("phone-text"), "Scan to open this page with https, which a phone's camera needs. The node made the certificate itself: the phone asks once whether to trust it.");
}
