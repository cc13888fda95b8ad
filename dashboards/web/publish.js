// The publish page: choose camera or screen, go live, see the processed result beside it.

import { byId, el, setText } from "./dom.js";
import * as format from "./format.js";
import { publish, watch } from "./millstream.js";
import { credentials, followStreams, nodeFacts, outOf, pageOf, rememberCredentials, streamOfPage } from "./streams.js";

const name = streamOfPage("publish");
const node = nodeFacts();
const preview = byId("preview");
const result = byId("result");

let capture = null;
let publisher = null;
let viewer = null;
let meter = null;

document.title = `Publish ${name} · Millstream`;
setText(byId("name"), name);
byId("own-link").href = pageOf(name);
byId("out-link").href = pageOf(outOf(name));
for (const id of ["own-link", "out-link"]) byId(id).target = "_blank";
byId("token").value = credentials("publish");
node.then(({ publish_needs_password: needed }) => (byId("token-field").hidden = !needed && !byId("token").value));

const secure = Boolean(navigator.mediaDevices);
if (!secure) {
  const link = `https://${location.host}${location.pathname}`;
  problem("Browsers allow camera and screen only over https.", el("a", { href: link, textContent: `Open ${link}` }));
  byId("go").disabled = true;
}
if (name.endsWith("-out")) {
  problem("Names ending in -out belong to processed streams: choose another name.");
  byId("go").disabled = true;
}

// ---- what to publish

const kind = () => document.querySelector('input[name="kind"]:checked').value;
if (secure && !navigator.mediaDevices.getDisplayMedia) {
  document.querySelector('input[value="screen"]').closest("label").hidden = true;
}

async function open() {
  const [width, height] = byId("size").value.split("x").map(Number);
  const frameRate = Number(byId("fps").value);
  const picture = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: frameRate } };
  const sound = byId("microphone").value;
  const audio = sound === "none" ? false : sound ? { deviceId: { exact: sound } } : true;
  const tracks = [];
  const devices = navigator.mediaDevices;
  try {
    switch (kind()) {
      case "camera": {
        const camera = byId("camera").value;
        const video = camera ? { ...picture, deviceId: { exact: camera } } : picture;
        tracks.push(...(await devices.getUserMedia({ video, audio })).getTracks());
        break;
      }
      case "screen": {
        const screen = await devices.getDisplayMedia({ video: picture, audio: audio !== false });
        tracks.push(...screen.getTracks());
        if (audio && screen.getAudioTracks().length === 0) {
          // Without the screen's own sound the microphone may still be wanted.
          const microphone = await devices.getUserMedia({ audio }).catch(() => null);
          tracks.push(...(microphone?.getTracks() ?? []));
        }
        break;
      }
      default:
        tracks.push(...(await devices.getUserMedia({ audio: audio || true })).getTracks());
    }
  } catch (error) {
    for (const track of tracks) track.stop();
    throw new Error(captureProblem(error));
  }
  close();
  capture = new MediaStream(tracks);
  for (const track of capture.getVideoTracks()) {
    track.contentHint = kind() === "screen" ? "detail" : "motion";
    track.addEventListener("ended", stop);
  }
  preview.srcObject = capture;
  byId("own-veil").hidden = capture.getVideoTracks().length > 0;
  setText(byId("own-text"), "Sound only.");
  byId("own-screen").classList.toggle("mirrored", kind() === "camera");
  listen();
  await listDevices();
}

function captureProblem(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "The browser did not allow camera, microphone or screen. Allow it in the address bar and try again.";
    case "NotFoundError":
      return "There is no such camera or microphone.";
    case "NotReadableError":
      return "The camera or microphone is in use by another program.";
    case "OverconstrainedError":
      return `The device can not do this: ${error.constraint}.`;
    default:
      return error.message || String(error);
  }
}

/** Devices have names only after they were allowed once. */
async function listDevices() {
  const all = await navigator.mediaDevices.enumerateDevices();
  for (const [id, kind] of [["camera", "videoinput"], ["microphone", "audioinput"]]) {
    const select = byId(id);
    for (const { deviceId, label } of all.filter((device) => device.kind === kind && device.deviceId)) {
      const known = [...select.options].some((option) => option.value === deviceId);
      if (!known && label && deviceId !== "default") select.append(el("option", { value: deviceId, textContent: label }));
    }
  }
}
if (secure) {
  listDevices().catch(() => {});
  navigator.mediaDevices.addEventListener?.("devicechange", () => listDevices().catch(() => {}));
}

function close() {
  for (const track of capture?.getTracks() ?? []) track.stop();
  capture = null;
  preview.srcObject = null;
  meter?.close();
  meter = null;
  byId("level").style.transform = "scaleX(0)";
}

/** Shows how loud the microphone is, so that silence is seen before it is broadcast. */
function listen() {
  const [track] = capture.getAudioTracks();
  if (!track) return;
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 512;
  context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    const level = Math.min(1, Math.max(0, 1 + Math.log10(power + 1e-6) / 5));
    byId("level").style.transform = `scaleX(${level.toFixed(2)})`;
  }, 80);
  meter = {
    close() {
      clearInterval(timer);
      context.close();
    },
  };
}

// ---- going live

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (publisher?.state === "refused") publisher.retry({ token: token() });
  else if (publisher) stop();
  else go();
});

async function go() {
  clearProblem();
  byId("go").disabled = true;
  try {
    await open();
  } catch (error) {
    problem(error.message);
    return;
  } finally {
    byId("go").disabled = false;
  }
  publisher = publish(location.origin + pageOf(name), {
    stream: capture,
    token: token(),
    videoBitrate: Number(byId("bitrate").value),
    onstate: onpublisher,
    onstats: onsent,
  });
  onpublisher("connecting", "");
  viewer = watch(location.origin + pageOf(outOf(name)), {
    video: result,
    token: credentials("read") || token(),
    onstate: onviewer,
    onstats: onreceived,
  });
}

function stop() {
  publisher?.stop();
  viewer?.stop();
  publisher = viewer = null;
  close();
  result.srcObject = null;
  byId("own-veil").hidden = false;
  setText(byId("own-text"), "Choose what to publish, then go live.");
  onviewer("stopped", "");
  show("", "not live", "Go live");
  for (const id of ["own-line", "out-line"]) setText(byId(id), "");
  for (const id of ["own-size", "delay"]) byId(id).hidden = true;
}

function token() {
  const text = byId("token").value;
  rememberCredentials("publish", text);
  return text;
}

function onpublisher(state, detail) {
  clearProblem();
  switch (state) {
    case "live":
      return show("good", "live", "Stop");
    case "refused":
      byId("token-field").hidden = false;
      byId("token").focus();
      problem(token() ? "The password or token is wrong." : "This node wants a password or token from publishers.");
      return show("warn", "needs a password", "Go live");
    case "failed":
      problem(detail);
      return show("bad", "trying again", "Stop");
    case "stopped":
      return;
    default:
      return show("warn", state === "interrupted" ? "coming back" : "connecting", "Stop");
  }
}

function show(kind, text, action) {
  byId("state").className = `tag ${kind}`;
  byId("state-dot").className = `dot ${kind}`;
  setText(byId("state-text"), text);
  const button = byId("go");
  setText(button, action);
  button.className = action === "Stop" ? "danger" : "primary";
}

function onviewer(state, detail) {
  byId("out-veil").hidden = state === "live";
  byId("out-veil").classList.toggle("plain", !result.videoWidth || state === "stopped");
  byId("wheel").classList.toggle("still", state === "stopped" || state === "failed");
  const texts = {
    connecting: "Connecting…",
    waiting: notProcessed || "Waiting for the first processed picture…",
    interrupted: "Coming back…",
    refused: "Viewers of this node need a password: open the result in its own page.",
    failed: detail,
    stopped: "The result appears here, a few tenths of a second behind.",
  };
  setText(byId("out-text"), texts[state] ?? "");
}

function onsent(stats) {
  const limits = { cpu: "limited by this computer", bandwidth: "limited by the network" };
  byId("own-size").hidden = !stats.width;
  setText(byId("own-size"), `${stats.width}×${stats.height}`);
  const parts = [`${format.rate(stats.fps)} fps`, format.bitrate(stats.bitrate), stats.codec && format.codec(stats.codec), limits[stats.limited]];
  setText(byId("own-line"), parts.filter(Boolean).join(" · "));
}

function onreceived(stats) {
  const parts = [stats.width ? `${stats.width}×${stats.height}` : "", `${format.rate(stats.fps)} fps`, format.bitrate(stats.bitrate)];
  setText(byId("out-line"), parts.filter(Boolean).join(" · "));
}

byId("bitrate").addEventListener("change", () => publisher?.setVideoBitrate(Number(byId("bitrate").value)));
for (const id of ["camera", "microphone", "size", "fps", "kinds"]) {
  byId(id).addEventListener("change", () => {
    byId("camera-field").hidden = kind() !== "camera";
    setText(byId("hint"), publisher ? "This takes effect when you go live again." : "");
  });
}

// ---- what the node says

let notProcessed = "";
followStreams(1500, (streams) => {
  const processing = streams.find((stream) => stream.name === name)?.processing;
  const delay = processing?.delay_ms;
  byId("delay").hidden = !publisher || !Number.isFinite(delay);
  if (Number.isFinite(delay)) setText(byId("delay"), `${format.milliseconds(delay)} processing`);
  notProcessed = processing?.problem ? `Not processed now: ${processing.problem}.` : "";
  if (publisher && publisher.state === "live" && !processing) notProcessed = "This stream has no graph: it is not processed.";
  if (viewer?.state === "waiting") onviewer("waiting", "");
});

function problem(text, more) {
  const node = byId("problem");
  node.replaceChildren(text, more ? " " : "", more ?? "");
  node.hidden = false;
}

function clearProblem() {
  byId("problem").hidden = true;
}

addEventListener("pagehide", stop);
