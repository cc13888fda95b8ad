// What the Chromium viewers of `millstream bench` share: a page that plays one WHEP stream and notes
// which numbered pictures (src/bench/clip.rs) it showed and when. Facts go to standard output as JSON
// lines.
const { chromium } = require("playwright-core");

const say = (event) => process.stdout.write(JSON.stringify(event) + "\n");

// Inside the page: watches, and calls `report` each two seconds. `began_ms` is when it set out to.
async function watch([viewer, whep, square, sound]) {
  const width = 32 * square;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = square;
  const drawing = canvas.getContext("2d", { willReadFrequently: true });

  // Sixteen squares and their opposites; null when the picture is not whole.
  const read = (video) => {
    drawing.drawImage(video, 0, video.videoHeight - square, width, square, 0, 0, width, square);
    const pixels = drawing.getImageData(0, square / 2, width, 1).data;
    const bits = [];
    for (let at = square / 2; at < width; at += square) bits.push(pixels[at * 4 + 1] > 127);
    const number = bits.slice(0, 16).reduce((sum, bit) => sum * 2 + bit, 0);
    const whole = bits.slice(0, 16).every((bit, at) => bit !== bits[16 + at]);
    return whole ? number : null;
  };

  const video = document.createElement("video");
  video.muted = true;
  video.autoplay = true;
  video.srcObject = new MediaStream();
  document.body.append(video);
  let pictures = [];
  const look = (now, facts) => {
    const number = read(video);
    const zero = performance.timeOrigin;
    pictures.push({ number, shown_ms: zero + facts.expectedDisplayTime, read_ms: zero + performance.now() });
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);

  const began_ms = performance.timeOrigin + performance.now();
  const pc = new RTCPeerConnection();
  pc.addTransceiver("video", { direction: "recvonly" });
  if (sound) pc.addTransceiver("audio", { direction: "recvonly" });
  pc.ontrack = ({ track, receiver }) => {
    // As the product's player: no buffer beyond what jitter asks for.
    receiver.jitterBufferTarget = 0;
    video.srcObject.addTrack(track);
  };

  // Milliseconds that frames spent in the jitter buffers, of those that left since the last look.
  const before = {};
  const buffers = async () => {
    const held = {};
    for (const stats of (await pc.getStats()).values()) {
      if (stats.type !== "inbound-rtp") continue;
      const { kind, jitterBufferDelay: seconds, jitterBufferEmittedCount: count } = stats;
      const last = before[kind] ?? { seconds: 0, count: 0 };
      before[kind] = { seconds, count };
      if (count > last.count) held[kind] = (1000 * (seconds - last.seconds)) / (count - last.count);
    }
    return held;
  };
  window.tell = async () => {
    const seen = pictures;
    pictures = [];
    await report({ viewer, began_ms, pictures: seen, buffers_ms: await buffers() });
  };
  setInterval(window.tell, 2000);

  await pc.setLocalDescription(await pc.createOffer());
  const answer = await fetch(whep, {
    method: "POST", headers: { "Content-Type": "application/sdp" }, body: pc.localDescription.sdp,
  });
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  await video.play();
}

// A browser for watchers of `whep`.
async function start(whep, square, sound) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: [
      "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
      "--autoplay-policy=no-user-gesture-required", "--disable-renderer-backgrounding",
      "--disable-backgrounding-occluded-windows",
    ],
  });
  const blank = new URL(whep).origin + "/blank";
  // A page that is ready to watch; `go` begins.
  const page = async (viewer) => {
    const page = await (await browser.newContext({ bypassCSP: true })).newPage();
    page.on("pageerror", (error) => say({ problem: String(error) }));
    await page.exposeFunction("report", say);
    await page.route(blank, (route) =>
      route.fulfill({ contentType: "text/html", body: "<!doctype html><title>bench</title>" }));
    await page.goto(blank);
    return {
      go: () => page.evaluate(watch, [viewer, whep, Number(square), sound === "sound"]),
      tell: () => page.evaluate(() => window.tell()),
      close: () => page.context().close(),
    };
  };
  return { page, version: browser.version(), close: () => browser.close() };
}

// Runs `main` with the command line's arguments and ends the process.
function run(main) {
  main(...process.argv.slice(2)).then(() => process.exit(0), (error) => {
    say({ problem: String(error) });
    process.exit(1);
  });
}

module.exports = { say, start, run };
