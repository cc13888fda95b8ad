// Firefox for the tests of the node, with the commands of browser.js as far as they are used:
//
//   {"do":"watch","page":"a","whep":"http://.../cam/whep"}       a bare RTCPeerConnection
//   {"do":"open","page":"a","url":"http://.../cam/"}             a page of the product with a <video>
//   {"do":"publish","page":"a","whip":"http://.../cam/whip"}     camera and microphone, bare
//   "codec":"VP9" with either of them: that coding of pictures and no other
//   {"do":"restart","page":"a"}                                  ICE of "watch" or "publish" anew
//   {"do":"click","page":"a","selector":"button"}
//   {"do":"shot","page":"a","path":"/tmp/a.png"}
//   {"do":"close","page":"a"}
const fs = require("node:fs");
const path = require("node:path");
const readline = require("node:readline");
const { Firefox } = require("./marionette.js");

const say = (event) => process.stdout.write(JSON.stringify(event) + "\n");
const read = (name) => fs.readFileSync(path.join(__dirname, name), "utf8");
const [card, session] = [read("card.js"), read("session.js")];

// Between two looks at what pages have to report.
const LOOK_MS = 200;

// What a page reports waits in it until it is asked for.
const reporting = `() => {
  window.reports ??= [];
  window.report = (event) => reports.push(event);
  // In Firefox an AudioContext stands still on a machine without a sound card.
  window.soundByRecorder = true;
  addEventListener("error", ({ message }) => report({ problem: message }));
  addEventListener("unhandledrejection", ({ reason }) => report({ problem: String(reason) }));
}`;

async function main() {
  const firefox = await Firefox.start(process.env.FIREFOX);
  const pages = new Map();

  async function fresh(name, url) {
    const window = await firefox.window();
    await firefox.navigate(window, url);
    await firefox.run(window, reporting);
    await firefox.run(window, `() => { ${card} }`);
    pages.set(name, window);
    return window;
  }

  // A page of the node's own origin without scripts: what is shown when there is none.
  async function blank(name, at) {
    const window = await fresh(name, new URL("/assets/blank", at).href);
    await firefox.run(window, `() => { ${session} }`);
    return window;
  }

  async function look(name) {
    const events = await firefox.run(pages.get(name), "() => reports.splice(0)");
    for (const event of events) say({ page: name, ...event });
  }

  const verbs = {
    async watch({ page, whep, codec }) {
      const window = await blank(page, whep);
      await firefox.run(window, "(...all) => watchStream(...all)", whep, codec ?? null);
    },
    async publish({ page, whip, codec }) {
      const window = await blank(page, whip);
      await firefox.run(window, "(...all) => publishCamera(...all)", whip, codec ?? null);
    },
    async open({ page, url }) {
      const window = await fresh(page, url);
      const found = await firefox.run(window, `async () => {
        for (let turn = 0; turn < 200 && !document.querySelector("video"); turn++) {
          await new Promise((later) => setTimeout(later, 50));
        }
        const video = document.querySelector("video");
        if (video) watchCard(video, report);
        return Boolean(video);
      }`);
      if (!found) throw new Error("the page has no <video>");
    },
    async restart({ page }) {
      await firefox.run(pages.get(page), "() => restartIce()");
    },
    async click({ page, selector }) {
      await firefox.run(pages.get(page), "(selector) => document.querySelector(selector).click()", selector);
    },
    async shot({ page, path: file }) {
      await firefox.shot(pages.get(page), file);
    },
    async close({ page }) {
      await look(page);
      const window = pages.get(page);
      pages.delete(page);
      await firefox.run(window, "() => window.hangUp?.()");
      await firefox.close(window);
    },
  };

  // Looks from now on, one look after the other.
  let over = false;
  const looking = (async () => {
    while (!over) {
      for (const name of pages.keys()) await look(name).catch(() => {});
      await new Promise((later) => setTimeout(later, LOOK_MS));
    }
  })();
  const offered = await firefox.window();
  await firefox.run(offered, `() => { ${session} }`);
  const codings = await firefox.run(offered, "() => codings()");
  await firefox.close(offered);
  say({ ready: firefox.version, codings });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    try {
      await verbs[command.do](command);
      say({ page: command.page, done: command.do });
    } catch (error) {
      say({ page: command.page, failed: command.do, problem: String(error) });
    }
  }
  over = true;
  await looking;
  await firefox.quit();
}

main().then(() => process.exit(0), (error) => {
  say({ failed: "start", problem: String(error) });
  process.exit(1);
});
