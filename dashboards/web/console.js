// The operator's console: asks the node each second and draws what it says.

import { histogram, quantile, sparkline } from "./charts.js";
import { drawCoding } from "./coding.js";
import { byId, el, keep, setText } from "./dom.js";
import * as format from "./format.js";
import { GraphEditor } from "./graph.js";
import { Parameters, httpCarrier } from "./millstream.js";
import { drawMoney } from "./money.js";
import { outOf, pageOf, paired, viewersOf } from "./streams.js";

const EVERY_MS = 1000;
/** Seconds of courses and of "last minute". */
const PLACES = 60;

/** What the hops are; in the node's words, in the order of the road. */
const HOPS = {
  hub: "From the last byte of a frame to its writing to the link",
  uplink: "On the way to the orchestrator",
  queue: "Waiting for the decoder",
  decode: "In the decoder",
  wait: "Between decoder and graph",
  graph: "In the graph",
  encode: "In the encoder",
  downlink: "On the way back to the gateway",
  splice: "Into the processed stream",
  egress: "From the hub to the last packet to a viewer",
  road: "All of it, without the viewer's network",
};
const WORK = ["decode", "graph", "encode"];

const history = [];
const courses = new Map();
let chosen = decodeURIComponent(location.hash.slice(1));
let edgeUrl = null;
let span = "minute";

let classes = null;
const editor = new GraphEditor(byId("graph"), byId("graph-actions"), async () => {
  classes ??= await ask("/object_info").catch(() => ({}));
  return classes;
});

turn();

async function turn() {
  const started = performance.now();
  if (!document.hidden) {
    try {
      draw(await ask("/v1/status"));
      connection("good", "connected");
    } catch {
      connection("bad", "no answer");
    }
  }
  setTimeout(turn, Math.max(100, EVERY_MS - (performance.now() - started)));
}

async function ask(path) {
  const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(5000) });
  if (!response.ok) throw new Error(`${path} answered ${response.status}`);
  return response.json();
}

function connection(kind, text) {
  byId("connection").className = `tag ${kind}`;
  byId("connection-dot").className = `dot ${kind}`;
  setText(byId("connection-text"), text);
}

function draw(status) {
  history.push({ at: performance.now(), status });
  if (history.length > PLACES + 1) history.shift();
  const pairs = paired(status.streams);
  drawNode(status.node);
  note(pairs);
  drawTiles(status, pairs);
  drawStreams(pairs);
  drawDetail(pairs);
  drawMade(status);
  drawHops(status.hops);
  drawJobs(status);
  byId("money-section").hidden = !drawMoney(byId("money"), status, history[0], history[history.length - 1]);
}

// ---- the node

function drawNode(node) {
  const roles = [node.gateway && "gateway", node.orchestrator && "orchestrator"].filter(Boolean);
  setText(byId("roles"), roles.join(" + "));
  byId("roles").title = node.orchestrator ?? "";
  setText(byId("uptime"), `up ${format.duration(node.uptime_seconds)}`);
  setText(byId("version"), node.version);
  byId("version").title = node.commit;
  edgeUrl = edgeOf(node.edge);
  byId("edge").hidden = !edgeUrl;
  if (edgeUrl) byId("edge").href = edgeUrl;
}

/** The address of the pages for viewers, from where this console is looked at. */
function edgeOf(address) {
  if (!address) return null;
  const [, host, port] = address.match(/^(.*):(\d+)$/) ?? [];
  const any = host === "0.0.0.0" || host === "[::]";
  return port ? `http://${any ? location.hostname : host}:${port}` : null;
}

// ---- rates

/** Frames a second in and out of each stream, kept for a minute. */
function note(pairs) {
  const before = history[history.length - 2];
  const seconds = before ? (history[history.length - 1].at - before.at) / 1000 : 0;
  const earlier = new Map(before?.status.streams.map((stream) => [stream.name, stream]));
  const rateOf = (stream) => {
    const then = stream && earlier.get(stream.name);
    return then && stream.frames >= then.frames ? (stream.frames - then.frames) / seconds : 0;
  };
  const names = new Set(pairs.map(({ name }) => name));
  for (const name of courses.keys()) if (!names.has(name)) courses.delete(name);
  if (!before) return;
  for (const { name, source, processed } of pairs) {
    const course = courses.get(name) ?? { in: [], out: [] };
    courses.set(name, course);
    course.in.push(rateOf(source));
    course.out.push(rateOf(processed));
    for (const list of [course.in, course.out]) if (list.length > PLACES) list.shift();
  }
}

/** The mean of the last seconds: single seconds jump between 29 and 31. */
function recent(list = [], count = 5) {
  const last = list.slice(-count);
  return last.length ? last.reduce((sum, value) => sum + value, 0) / last.length : NaN;
}

/** How much a figure of the whole node grew within the last minute, and in how many seconds. */
function growth(read) {
  const [first, last] = [history[0], history[history.length - 1]];
  return { by: read(last.status) - read(first.status), seconds: (last.at - first.at) / 1000 };
}

// ---- tiles

function drawTiles(status, pairs) {
  const sum = (which) => [...courses.values()].reduce((all, course) => all + recent(course[which]), 0);
  const engines = (now) => {
    const jobs = now.jobs.length ? now.jobs.map(({ engine }) => engine) : now.streams.map(({ processing }) => processing?.engine).filter(Boolean);
    const add = (key) => jobs.reduce((all, engine) => all + engine[key], 0);
    return { received: add("received"), dropped: add("dropped") + add("skipped") + add("failed") };
  };
  const received = growth((now) => engines(now).received);
  const dropped = growth((now) => engines(now).dropped);
  const share = received.by > 0 ? dropped.by / received.by : NaN;
  const delays = pairs.map(({ source }) => source?.processing?.delay_ms).filter(Number.isFinite);
  const processing = pairs.filter(({ source }) => source?.processing).length;
  const viewers = pairs.reduce((all, pair) => all + viewersOf(pair), 0);
  const tiles = [
    ["Streams", String(pairs.length), `${processing} processed`],
    ["Frames/s in", format.rate(sum("in")), "all sources"],
    ["Frames/s out", format.rate(sum("out")), "all processed streams"],
    ["Dropped", format.percent(share), "of frames in the last minute", share > 0.1],
    ["Delay", delays.length ? format.milliseconds(Math.max(...delays)) : "–", delays.length > 1 ? "of the slowest stream" : "source to processed"],
    ["Viewers", String(viewers), "of all streams"],
  ];
  if (status.capacity) tiles.push(["Room for jobs", String(status.capacity[0]), `${status.capacity[1]} in use`, status.capacity[0] === 0]);
  keep(byId("tiles"), tiles, ([title]) => title, ([title]) => {
    const [value, sub] = [el("dd"), el("div", { className: "sub" })];
    const node = el("dl", { className: "tile panel" }, el("dt", { textContent: title }), value, sub);
    const update = ([, now, below, bad]) => {
      setText(value, now);
      setText(sub, below);
      node.classList.toggle("bad", Boolean(bad));
    };
    return { node, update };
  });
}

// ---- streams

function drawStreams(pairs) {
  byId("streams-table").hidden = pairs.length === 0;
  byId("streams-empty").hidden = pairs.length > 0;
  if (!pairs.some(({ name }) => name === chosen)) choose(pairs[0]?.name ?? "", false);
  keep(byId("streams"), pairs, ({ name }) => name, streamRow);
}

function streamRow({ name }) {
  const button = el("button", { type: "button", className: "row-name", textContent: name, onclick: () => choose(name) });
  const cells = {};
  const cell = (key, className = "") => (cells[key] = el("td", { className }));
  const spark = sparkline({ label: `Frames a second of ${name} in and out, last minute` });
  const state = el("span", { className: "tag" });
  const node = el(
    "tr",
    { onclick: (event) => event.target === button || choose(name) },
    el("td", {}, button),
    cell("source", "muted"),
    cell("in", "number"),
    cell("out", "number"),
    el("td", {}, spark.node),
    cell("delay", "number"),
    cell("viewers", "number"),
    el("td", {}, state),
  );
  const update = (pair) => {
    const course = courses.get(name) ?? { in: [], out: [] };
    const { source, processed } = pair;
    setText(cells.source, sourceText(source ?? processed));
    setText(cells.in, source ? format.rate(recent(course.in)) : "–");
    setText(cells.out, processed ? format.rate(recent(course.out)) : "–");
    setText(cells.delay, format.milliseconds(source?.processing?.delay_ms ?? NaN));
    setText(cells.viewers, String(viewersOf(pair)));
    spark.draw(course, PLACES);
    const [kind, text] = stateOf(pair);
    state.className = `tag ${kind}`;
    setText(state, text);
    node.classList.toggle("chosen", name === chosen);
    if (name === chosen) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  };
  return { node, update };
}

function sourceText({ protocol, video, audio }) {
  const picture = video ? `${format.codec(video.codec)} ${video.width}×${video.height}` : "";
  return [protocol.toUpperCase(), picture, audio ? format.codec(audio.codec) : ""].filter(Boolean).join(" · ");
}

function stateOf({ source, processed }) {
  if (!source) return ["warn", "source gone"];
  if (!source.processing) return ["", "passed on"];
  if (source.processing.problem) return ["bad", "not processed"];
  return processed ? ["good", "processed"] : ["warn", "starting"];
}

function choose(name, byHand = true) {
  chosen = name;
  if (!byHand) return;
  window.history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  const last = history[history.length - 1];
  if (!last) return;
  const pairs = paired(last.status.streams);
  drawStreams(pairs);
  drawDetail(pairs);
}

// ---- the chosen stream

function drawDetail(pairs) {
  const pair = pairs.find(({ name }) => name === chosen);
  const detail = byId("detail");
  detail.hidden = !pair;
  if (!pair) {
    detail.dataset.name = "";
    byId("players").replaceChildren();
    return;
  }
  const { name, source, processed } = pair;
  const processing = source?.processing;
  if (detail.dataset.name !== name) {
    detail.dataset.name = name;
    setText(byId("detail-title"), name);
    const address = `/v1/streams/${name.split("/").map(encodeURIComponent).join("/")}/graph`;
    editor.open(processing ? new Parameters(httpCarrier({ read: address, write: address })) : null);
  }
  setText(byId("detail-facts"), detailFacts(pair));
  const problem = processing?.problem ?? source?.webrtc?.picture_reencoded ?? "";
  byId("detail-problem").hidden = !problem;
  setText(byId("detail-problem"), processing?.problem ? `Not processed now: ${problem}.` : `Re-encoded for browsers: ${problem}.`);
  byId("graph").parentElement.hidden = !processing;
  if (processing) editor.show(processing.prompt);
  byId("stop").disabled = !source;
  drawPlayers(pair, processing);
  drawCandidates(processing);
  drawEngine(processing?.engine, processed);
}

function detailFacts({ source, processed }) {
  const stream = source ?? processed;
  const parts = [
    stream.remote,
    `since ${format.duration((Date.now() - stream.since_ms) / 1000)}`,
    format.bytes(stream.bytes),
    Number.isFinite(stream.key_interval_ms) ? `key frame each ${format.milliseconds(stream.key_interval_ms)}` : "",
    stream.lagged ? `${stream.lagged} packets lost by slow readers` : "",
    source?.processing ? `request ${source.processing.request_id}` : "",
  ];
  return parts.filter(Boolean).join(" · ");
}

byId("players-on").addEventListener("change", () => {
  const last = history[history.length - 1];
  if (last) drawDetail(paired(last.status.streams));
});

function drawPlayers({ name, source, processed }, processing) {
  const wanted = [];
  if (edgeUrl && byId("players-on").checked) {
    if (source) wanted.push(["Source", name]);
    if (processed || processing) wanted.push(["Processed", outOf(name)]);
  }
  byId("players").hidden = wanted.length === 0;
  keep(byId("players"), wanted, ([, stream]) => edgeUrl + stream, ([title, stream]) => {
    const page = edgeUrl + pageOf(stream);
    const frame = el("iframe", {
      src: `${page}?muted=1`,
      title: `${title}: ${stream}`,
      allow: "autoplay; fullscreen",
      referrerPolicy: "no-referrer",
    });
    const link = el("a", { href: page, target: "_blank", rel: "noreferrer", textContent: "Open" });
    const caption = el("figcaption", {}, el("b", { textContent: title }), el("span", { className: "mono", textContent: stream }), link);
    return { node: el("figure", { className: "panel" }, frame, caption), update() {} };
  });
}

function drawCandidates(processing) {
  const inUse = processing?.orchestrator;
  const candidates = (processing?.candidates ?? []).map((one) => ({ ...one, used: one.url === inUse }));
  byId("candidates-empty").hidden = candidates.length > 0;
  setText(byId("swaps"), `${processing?.swaps ?? 0} swaps`);
  keep(byId("candidates"), candidates, ({ url }) => url, ({ url }) => {
    const dot = el("span", { className: "dot" });
    const [why, facts] = [el("span", { className: "why" }), el("span", { className: "muted small figures" })];
    const node = el("li", {}, dot, el("span", { className: "where", textContent: url }), facts, why);
    const update = ({ used, verdict, text, round_trip_ms: roundTrip, price }) => {
      dot.className = `dot ${used ? "good" : ["chosen", "ranked"].includes(verdict) ? "" : verdict === "suspended" ? "warn" : "bad"}`;
      setText(why, used && verdict !== "chosen" ? `in use · ${text}` : used ? "chosen and in use" : text);
      setText(facts, [Number.isFinite(roundTrip) ? format.milliseconds(roundTrip) : "", price ? `${price} wei/pixel` : ""].filter(Boolean).join(" · "));
    };
    return { node, update };
  });
}

function drawEngine(engine, processed) {
  byId("engine-empty").hidden = Boolean(engine);
  const facts = engine
    ? [
        ["Received", format.whole(engine.received)],
        ["Processed", format.whole(engine.processed)],
        ["Dropped for newer", format.whole(engine.dropped)],
        ["Skipped by decoder", format.whole(engine.skipped)],
        ["Failed", format.whole(engine.failed)],
        ["Written here", processed ? format.whole(processed.frames) : "–"],
        ["Decode, median", format.milliseconds(engine.decode_ms)],
        ["Graph, median", format.milliseconds(engine.graph_ms)],
        ["Encode, median", format.milliseconds(engine.encode_ms)],
      ]
    : [];
  keep(byId("engine"), facts, ([title]) => title, ([title]) => {
    const value = el("dd");
    return { node: el("div", {}, el("dt", { textContent: title }), value), update: ([, text]) => setText(value, text) };
  });
}

byId("stop").addEventListener("click", () => {
  const name = chosen;
  const dialog = byId("confirm");
  setText(byId("confirm-text"), `The publisher of ${name} is disconnected, and everybody who watches it. It may publish again.`);
  dialog.returnValue = "keep";
  dialog.addEventListener(
    "close",
    async () => {
      if (dialog.returnValue !== "stop") return;
      const address = `/v1/streams/${name.split("/").map(encodeURIComponent).join("/")}/stop`;
      const response = await fetch(address, { method: "POST" }).catch(() => null);
      if (!response?.ok) setText(byId("streams-note"), `${name} could not be stopped.`);
    },
    { once: true },
  );
  dialog.showModal();
});

// ---- hops

for (const name of ["minute", "all"]) {
  byId(`span-${name}`).addEventListener("click", () => {
    span = name;
    for (const other of ["minute", "all"]) byId(`span-${other}`).setAttribute("aria-pressed", String(other === span));
    const last = history[history.length - 1];
    if (last) drawHops(last.status.hops);
  });
}

function drawHops(hops) {
  const first = new Map(history[0].status.hops.map((hop) => [hop.hop, hop]));
  const shown = hops.map(({ hop, buckets, bounds_ms: bounds }) => {
    const before = span === "minute" && history.length > 1 ? first.get(hop)?.buckets : null;
    const counts = before ? buckets.map((count, index) => Math.max(0, count - before[index])) : buckets;
    return { hop, bounds, counts, all: counts.reduce((sum, count) => sum + count, 0) };
  });
  const passed = shown.filter(({ all }) => all > 0);
  byId("hops-empty").hidden = passed.length > 0;
  drawRoad(passed.filter(({ hop }) => hop !== "road"), passed.find(({ hop }) => hop === "road"));
  keep(byId("hops"), passed, ({ hop }) => hop, ({ hop }) => {
    const bars = histogram(hop);
    const count = el("span", { className: "muted figures" });
    const [p50, p95, p99] = [el("b"), el("b"), el("b")];
    const node = el(
      "div",
      { className: "hop" },
      el("div", { className: "hop-head" }, el("h3", { textContent: hop }), count),
      el("p", { className: "hop-text", textContent: HOPS[hop] ?? "" }),
      bars.node,
      el("div", { className: "hop-line figures" }, el("span", {}, "p50", p50), el("span", {}, "p95", p95), el("span", {}, "p99", p99)),
    );
    const update = ({ bounds, counts, all }) => {
      bars.draw(bounds, counts);
      setText(count, `${format.scaled(all)} frames`);
      for (const [node, share] of [[p50, 0.5], [p95, 0.95], [p99, 0.99]]) {
        setText(node, format.milliseconds(quantile(bounds, counts, share) ?? NaN));
      }
    };
    return { node, update };
  });
}

/** The medians beside each other, so that the longest hop is seen at once. */
function drawRoad(hops, whole) {
  const parent = byId("road");
  parent.hidden = hops.length < 3;
  if (parent.hidden) return;
  if (!parent.firstChild) {
    parent.className = "road";
    parent.append(el("div", { className: "road-bar", attributes: { role: "img" } }), el("div", { className: "road-caption figures" }));
  }
  const [bar, caption] = parent.children;
  const parts = hops.map(({ hop, bounds, counts }) => ({ hop, ms: quantile(bounds, counts, 0.5) ?? 0 }));
  keep(bar, parts, ({ hop }) => hop, ({ hop }) => {
    const node = el("span", { className: WORK.includes(hop) ? "work" : "" });
    return {
      node,
      update({ ms }) {
        node.style.flexGrow = ms.toFixed(3);
        node.title = `${hop}: ${format.milliseconds(ms)}`;
      },
    };
  });
  const sum = (of) => parts.filter(of).reduce((all, { ms }) => all + ms, 0);
  const work = sum(({ hop }) => WORK.includes(hop));
  const rest = sum(({ hop }) => !WORK.includes(hop));
  const longest = parts.reduce((most, part) => (part.ms > most.ms ? part : most));
  const total = whole && quantile(whole.bounds, whole.counts, 0.5);
  const texts = [
    ["work", `decode, graph, encode ${format.milliseconds(work)}`],
    ["", `everything else ${format.milliseconds(rest)}`],
    [null, `longest: ${longest.hop}`],
    [null, total ? `whole road, median ${format.milliseconds(total)}` : ""],
  ].filter(([, text]) => text);
  keep(caption, texts, (_) => String(texts.indexOf(_)), ([key]) => {
    const text = el("span");
    return { node: el("span", {}, key === null ? null : el("span", { className: `key ${key}` }), text), update: ([, now]) => setText(text, now) };
  });
  bar.setAttribute("aria-label", parts.map(({ hop, ms }) => `${hop} ${format.milliseconds(ms)}`).join(", "));
}

// ---- codec bridges and renditions

function drawMade(status) {
  const [first, last] = [history[0], history[history.length - 1]];
  const before = last.at > first.at ? { status: first.status, seconds: (last.at - first.at) / 1000 } : null;
  byId("coding-section").hidden = !drawCoding(byId("coding"), status, before);
}

// ---- jobs

function drawJobs({ node, jobs, capacity }) {
  byId("jobs-section").hidden = !node.orchestrator;
  byId("jobs-table").hidden = jobs.length === 0;
  byId("jobs-empty").hidden = jobs.length > 0;
  if (capacity) setText(byId("capacity"), `${capacity[1]} of ${capacity[0] + capacity[1]} places taken`);
  keep(byId("jobs"), jobs, ({ manifest_id: id }) => id, ({ manifest_id: id, request_id: request }) => {
    const cells = Array.from({ length: 11 }, (_, index) => el("td", { className: index > 1 && index < 10 ? "number" : "" }));
    cells[0].className = "mono";
    const update = ({ since_ms: since, size, engine, last_error: error }) => {
      const texts = [
        id,
        size === "0x0" ? "–" : size.replace("x", "×"),
        format.duration((Date.now() - since) / 1000),
        ...[engine.received, engine.processed, engine.dropped + engine.skipped, engine.failed].map(format.whole),
        ...[engine.decode_ms, engine.graph_ms, engine.encode_ms].map(format.milliseconds),
        error ?? "",
      ];
      cells.forEach((cell, index) => setText(cell, texts[index]));
    };
    return { node: el("tr", { title: `request ${request}` }, cells), update };
  });
}
