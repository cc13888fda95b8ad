// Firefox and its remote control, Marionette: messages are `LENGTH:JSON` over TCP, a command is
// `[0, id, name, parameters]`, its answer `[1, id, error, result]`.
const fs = require("node:fs");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");
const { spawn } = require("node:child_process");

// Ends Firefox and takes its profile away when our end of the pipe is closed, however that comes.
const KEEPER = `profile=$1; shift; "$@" </dev/null >/dev/null 2>&1 & cat >/dev/null; kill $! 2>/dev/null; wait; rm -rf "$profile"`;

// How long Firefox may take until it listens.
const START_MS = 50_000;

const PREFERENCES = {
  // Any free port; it is written to the profile.
  "marionette.port": 0,
  // Camera and microphone without asking, made up: a picture that changes its colour and a tone.
  "media.navigator.permission.disabled": true,
  "media.navigator.permission.fake": true,
  "media.navigator.streams.fake": true,
  // Pictures and sound without a click.
  "media.autoplay.default": 0,
  "media.autoplay.blocking_policy": 0,
  "media.autoplay.block-webaudio": false,
  // Loopback is a network as any other, and goes by its address.
  "media.peerconnection.ice.loopback": true,
  // Without these a page that has no camera has the one address that leads out.
  "permissions.default.camera": 1,
  "permissions.default.microphone": 1,
  "media.peerconnection.ice.obfuscate_host_addresses": false,
  // Pages are run by scripts of ours.
  "security.csp.enable": false,
  "dom.min_background_timeout_value": 4,
  "widget.windows.window_occlusion_tracking.enabled": false,
  // It talks to nobody else.
  "app.normandy.enabled": false,
  "app.update.enabled": false,
  "browser.aboutwelcome.enabled": false,
  "browser.newtabpage.enabled": false,
  "browser.safebrowsing.downloads.enabled": false,
  "browser.safebrowsing.malware.enabled": false,
  "browser.safebrowsing.phishing.enabled": false,
  "browser.search.update": false,
  "browser.shell.checkDefaultBrowser": false,
  "browser.startup.homepage": "about:blank",
  "browser.startup.page": 0,
  "datareporting.policy.dataSubmissionEnabled": false,
  "dom.push.connection.enabled": false,
  "extensions.update.enabled": false,
  "geo.enabled": false,
  "media.gmp-manager.updateEnabled": false,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "network.dns.disablePrefetch": true,
  "services.settings.server": "http://127.0.0.1:9/",
  "toolkit.telemetry.enabled": false,
  "toolkit.telemetry.server": "",
};

/** A running Firefox. Commands are done one after the other. */
class Firefox {
  #socket;
  #keeper;
  #waiting = new Map();
  #last = 0;
  /** The window that it began with: commands need one that is there. */
  #first;
  #turn = Promise.resolve();

  /** Starts it and opens a session. */
  static async start(program) {
    const firefox = new Firefox();
    const profile = fs.mkdtempSync(path.join(os.tmpdir(), "firefox-"));
    const lines = Object.entries(PREFERENCES).map(
      ([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`,
    );
    fs.writeFileSync(path.join(profile, "user.js"), lines.join(""));
    const started = [program, "--headless", "--no-remote", "--marionette", "--profile", profile];
    firefox.#keeper = spawn("/bin/sh", ["-c", KEEPER, "keeper", profile, ...started], {
      stdio: ["pipe", "ignore", "ignore"],
      env: { ...process.env, HOME: profile, MOZ_CRASHREPORTER_DISABLE: "1" },
    });
    const port = await listening(path.join(profile, "MarionetteActivePort"));
    await firefox.#connect(port);
    const { capabilities } = await firefox.ask("WebDriver:NewSession", {});
    firefox.version = capabilities.browserVersion;
    firefox.#first = (await firefox.ask("WebDriver:GetWindowHandle", {})).value;
    await firefox.ask("WebDriver:SetTimeouts", { script: 12_000, pageLoad: 30_000 });
    return firefox;
  }

  #connect(port) {
    let bytes = Buffer.alloc(0);
    return new Promise((connected, failed) => {
      this.#socket = net.connect(port, "127.0.0.1");
      this.#socket.on("error", failed);
      this.#socket.on("close", () => {
        for (const { reject } of this.#waiting.values()) reject(new Error("Firefox has gone"));
      });
      this.#socket.on("data", (more) => {
        bytes = Buffer.concat([bytes, more]);
        for (;;) {
          const colon = bytes.indexOf(":");
          const end = colon + 1 + Number(bytes.subarray(0, Math.max(colon, 0)).toString());
          if (colon < 0 || bytes.length < end) return;
          const message = JSON.parse(bytes.subarray(colon + 1, end).toString());
          bytes = bytes.subarray(end);
          // The first one greets.
          if (!Array.isArray(message)) connected();
          else this.#answered(message);
        }
      });
    });
  }

  #answered([, id, error, result]) {
    const { resolve, reject } = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) reject(new Error(`${error.error}: ${error.message}`));
    else resolve(result);
  }

  /** One command's result. */
  ask(name, parameters) {
    return new Promise((resolve, reject) => {
      const id = ++this.#last;
      this.#waiting.set(id, { resolve, reject });
      const message = JSON.stringify([0, id, name, parameters]);
      this.#socket.write(`${Buffer.byteLength(message)}:${message}`);
    });
  }

  /** A new window. */
  async window() {
    return (await this.#in(this.#first, "WebDriver:NewWindow", { type: "window" })).handle;
  }

  /** One after the other: which window a command is for is told before it. */
  #in(window, name, parameters) {
    const done = this.#turn.then(async () => {
      await this.ask("WebDriver:SwitchToWindow", { handle: window });
      return this.ask(name, parameters);
    });
    this.#turn = done.catch(() => {});
    return done;
  }

  navigate(window, url) {
    return this.#in(window, "WebDriver:Navigate", { url });
  }

  /** Calls a function, given as text, in the page and waits for its promise. */
  async run(window, call, ...args) {
    const script = `return (${call})(...arguments)`;
    const { value } = await this.#in(window, "WebDriver:ExecuteScript", { script, args });
    return value;
  }

  async shot(window, file) {
    const { value } = await this.#in(window, "WebDriver:TakeScreenshot", { full: false });
    fs.writeFileSync(file, Buffer.from(value, "base64"));
  }

  close(window) {
    return this.#in(window, "WebDriver:CloseWindow", {});
  }

  /** Ends it. */
  quit() {
    this.#keeper.stdin.end();
    return new Promise((ended) => this.#keeper.on("exit", ended));
  }
}

async function listening(file) {
  for (const end = Date.now() + START_MS; Date.now() < end; ) {
    const port = fs.existsSync(file) && Number(fs.readFileSync(file, "utf8"));
    if (port) return port;
    await new Promise((later) => setTimeout(later, 50));
  }
  throw new Error("Firefox does not listen");
}

module.exports = { Firefox };
