// Chromium for the tests of the node: takes commands as JSON lines on standard input, says what
// pages show as JSON lines on standard output, ends when standard input ends.
//
//   {"do":"watch","page":"a","whep":"http://.../cam/whep"}       a bare RTCPeerConnection
//   {"do":"open","page":"a","url":"http://.../cam/"}             a page of the product with a <video>
//   {"do":"embed","page":"a","url":"http://.../"}                any page with a player in an <iframe>
//   {"do":"read","page":"a","url":"http://.../","until":"/x"}    a page's words and all that it sends and gets,
//       once "/x" was answered
//   {"do":"publish","page":"a","whip":"http://.../cam/whip"}     camera and microphone, bare
//   "codec":"VP9" with either of them: that coding of pictures and no other
//   "layers":[{"rid":"h"},...] with "publish": the encodings of simulcast
//   "via":"127.0.0.1:4711" with "watch": media over this UDP address only
//   {"do":"scale","page":"a","by":2}                             the pictures of "publish"
//   {"do":"restart","page":"a"}                                  ICE of "watch" or "publish" anew
//   {"do":"tell","page":"a","text":"..."}                        on the data channel of "watch"
//       with "blocked": true no WebRTC media gets through in either direction
//   {"do":"hls","page":"a","url":"http://.../cam/index.m3u8"}    a bare hls.js
//   {"do":"file","page":"a","url":"http://.../get?..."}          a file in a bare <video>
//   {"do":"click","page":"a","selector":"button"}
//   {"do":"shot","page":"a","path":"/tmp/a.png"}
//   {"do":"close","page":"a"}
const fs = require("node:fs");
const path = require("node:path");
const readline = require("node:readline");
const { chromium } = require("playwright-core");

const say = (event) => process.stdout.write(JSON.stringify(event) + "\n");
const read = (name) => fs.readFileSync(path.join(__dirname, name), "utf8");
const [card, session] = [read("card.js"), read("session.js")];

async function main() {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: [
      "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
      "--autoplay-policy=no-user-gesture-required", "--use-fake-device-for-media-stream",
      "--use-fake-ui-for-media-stream", "--disable-features=WebRtcHideLocalIpsWithMdns",
      "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows",
    ],
  });
  const pages = new Map();

  async function blank(name, at) {
    const page = await fresh(name);
    // A page without content on the node's own origin.
    const origin = new URL(at).origin;
    await page.route(origin + "/blank", (route) =>
      route.fulfill({ contentType: "text/html", body: "<!doctype html><title>blank</title>" }));
    await page.goto(origin + "/blank");
    await page.evaluate(session);
    if (!(await page.evaluate("codings()")).includes("video/H264")) throw new Error("Chromium lacks H.264");
    return page;
  }

  async function fresh(name) {
    const context = await browser.newContext({
      viewport: { width: 1280, height: 800 },
      permissions: ["camera", "microphone"],
      bypassCSP: true,
    });
    const page = await context.newPage();
    pages.set(name, page);
    page.on("pageerror", (error) => say({ page: name, problem: String(error) }));
    page.on("console", (m) => m.type() === "error" && say({ page: name, console: m.text() }));
    await page.exposeFunction("report", (event) => say({ page: name, ...event }));
    return page;
  }

  // All that a page sends, and what it is answered, scripts, styles, pictures and media apart.
  function overhear(name, page) {
    const told = (kind, ...parts) => say({ page: name, traffic: [kind, ...parts].join("\n") });
    page.on("request", (request) =>
      told("sent", request.url(), JSON.stringify(request.headers()), request.postData() ?? ""));
    page.on("response", async (response) => {
      const headers = response.headers();
      const wordy = /json|sdp|mpegurl|plain/i.test(headers["content-type"] ?? "");
      const body = wordy ? await response.text().catch(() => "") : "";
      told("answered", response.url(), JSON.stringify(headers), body);
    });
  }

  const verbs = {
    async watch({ page: name, whep, codec, via }) {
      const page = await blank(name, whep);
      await page.evaluate(card);
      await page.evaluate((all) => watchStream(...all), [whep, codec, via]);
    },
    async open({ page: name, url, blocked }) {
      const page = await fresh(name);
      if (blocked) {
        // Signalling works, but neither side learns an address of the other.
        await page.addInitScript(() => {
          const bare = (sdp) => sdp.replace(/a=candidate:.*\r\n/g, "");
          for (const method of ["setRemoteDescription", "setLocalDescription"]) {
            const plain = RTCPeerConnection.prototype[method];
            RTCPeerConnection.prototype[method] = function (description) {
              const given = description && { type: description.type, sdp: bare(description.sdp) };
              return given ? plain.call(this, given) : plain.call(this);
            };
          }
        });
      }
      await page.goto(url);
      await page.evaluate(card);
      const video = await page.waitForSelector("video", { state: "attached" });
      await video.evaluate((element) => watchCard(element, report));
    },
    async embed({ page: name, url }) {
      const page = await fresh(name);
      await page.goto(url);
      const frame = await (await page.waitForSelector("iframe")).contentFrame();
      const video = await frame.waitForSelector("video", { state: "attached" });
      await frame.evaluate(card);
      await video.evaluate((element) => watchCard(element, report));
    },
    async read({ page: name, url, until }) {
      const page = await fresh(name);
      overhear(name, page);
      const answered = page.waitForResponse((response) => response.url().includes(until));
      await Promise.all([answered, page.goto(url)]);
      // What the page makes of the answer counts too, and so do words in attributes.
      await page.waitForTimeout(1000);
      const words = await page.evaluate(() => {
        const spoken = ["title", "alt", "placeholder", "aria-label", "href"];
        const all = [...document.querySelectorAll("*")];
        const attributes = all.flatMap((element) => spoken.map((name) => element.getAttribute(name) ?? ""));
        const texts = all.filter((element) => !/^(script|style)$/i.test(element.tagName));
        const own = texts.flatMap((element) =>
          [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data));
        return [document.title, ...own, ...attributes].map((text) => text.trim()).filter(Boolean);
      });
      say({ page: name, words, shown: await page.evaluate("document.body.innerText") });
    },
    async hls({ page: name, url }) {
      const page = await fresh(name);
      const origin = new URL(url).origin;
      await page.route(origin + "/blank", (route) =>
        route.fulfill({ contentType: "text/html", body: "<!doctype html><title>blank</title>" }));
      await page.goto(origin + "/blank");
      await page.evaluate(card);
      await page.evaluate(async (url) => {
        const { default: Hls, Events } = await import("/assets/hls.light.min.mjs");
        const video = document.createElement("video");
        video.muted = true;
        document.body.append(video);
        watchCard(video, report);
        const hls = new Hls({ lowLatencyMode: true, enableWorker: false });
        hls.on(Events.ERROR, (_, { type, details, fatal }) => report({ hls_error: details, type, fatal }));
        hls.on(Events.MANIFEST_PARSED, () => video.play());
        hls.on(Events.LEVEL_LOADED, (_, { details }) => report({ low_latency: details.canBlockReload }));
        setInterval(() => report({ latency: hls.latency, stalled: video.readyState < 3 }), 500);
        hls.loadSource(url);
        hls.attachMedia(video);
      }, url);
    },
    async file({ page: name, url }) {
      const page = await fresh(name);
      const origin = new URL(url).origin;
      await page.route(origin + "/blank", (route) =>
        route.fulfill({ contentType: "text/html", body: "<!doctype html><title>blank</title>" }));
      await page.goto(origin + "/blank");
      await page.evaluate(card);
      await page.evaluate(async (url) => {
        const video = document.createElement("video");
        video.muted = true;
        document.body.append(video);
        watchCard(video, report);
        video.onended = () => report({ ended_at: video.currentTime });
        video.onerror = () => report({ problem: video.error.message });
        video.src = url;
        await video.play();
        report({ duration: video.duration, width: video.videoWidth });
      }, url);
    },
    async publish({ page: name, whip, codec = "H264", layers }) {
      const page = await blank(name, whip);
      await page.evaluate((all) => publishCamera(...all), [whip, codec, layers]);
    },
    async restart({ page }) {
      await pages.get(page).evaluate("restartIce()");
    },
    async scale({ page, by }) {
      await pages.get(page).evaluate(async (by) => {
        const sender = pc.getSenders().find(({ track }) => track.kind === "video");
        const wanted = sender.getParameters();
        wanted.encodings[0].scaleResolutionDownBy = by;
        await sender.setParameters(wanted);
      }, by);
    },
    async tell({ page, text }) {
      await pages.get(page).evaluate((text) => channel.send(text), text);
    },
    async click({ page, selector }) {
      await pages.get(page).click(selector);
    },
    async shot({ page, path: file }) {
      await pages.get(page).screenshot({ path: file });
    },
    async close({ page: name }) {
      const page = pages.get(name);
      pages.delete(name);
      await page.evaluate("window.hangUp?.()");
      await page.context().close();
    },
  };

  say({ ready: browser.version() });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    try {
      await verbs[command.do](command);
      say({ page: command.page, done: command.do });
    } catch (error) {
      say({ page: command.page, failed: command.do, problem: String(error) });
    }
  }
  await browser.close();
}

main().then(() => process.exit(0), (error) => {
  say({ failed: "start", problem: String(error) });
  process.exit(1);
});
