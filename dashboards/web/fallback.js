// Watching a stream however it goes: by WebRTC, and by low-latency HLS where its media does not get
// through, the browser has none, or the node does not send this stream that way.
//
// What is given back has the face of a session of `millstream.js`: `state`, `retry`, `stop`.

import { watch } from "./millstream.js";

/** How long WebRTC may take until the first picture of a stream that is there. */
const PATIENCE_MS = 8000;
/** How often it is looked whether the stream is there. */
const LOOK_MS = 1000;
/** Pauses between attempts at a playlist. */
const PAUSES_MS = [500, 1000, 2000, 3000];
/** Distance of statistics. */
const STATS_MS = 1000;

/**
 * @param {string} target the address of the stream's page
 * @param {object} options as those of `watch`, and
 * @param {"any"|"webrtc"|"hls"} [options.protocol] what is used; any: HLS where WebRTC fails
 * @param {() => Promise<boolean>} options.exists whether the stream is published now
 */
export function watchSomehow(target, options) {
  return new Somehow(target, options);
}

class Somehow {
  #session = null;
  #timer = 0;
  #live = false;

  constructor(target, options) {
    this.target = target;
    this.options = options;
    const { protocol = "any" } = options;
    const capable = typeof RTCPeerConnection === "function";
    if (protocol === "hls" || (!capable && protocol === "any")) this.#hls();
    else this.#webrtc(protocol === "any");
  }

  get state() {
    return this.#session.state;
  }

  retry(change = {}) {
    Object.assign(this.options, change);
    this.#session.retry(change);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#session.stop();
  }

  #webrtc(mayFall) {
    const onstate = (state, detail) => {
      // What the session says while it is given up is not for the page.
      if (this.#session instanceof Playlist) return;
      this.#live ||= state === "live";
      // The node answered and will not send it this way: another way may do.
      if (mayFall && state === "failed") this.#hls();
      else this.options.onstate?.(state, detail);
    };
    this.#session = watch(this.target, { ...this.options, onstate });
    if (!mayFall) return;
    let since = 0;
    const look = async () => {
      const there = await this.options.exists().catch(() => false);
      if (this.#live || this.#session instanceof Playlist) return;
      const waits = !there || this.#session.state === "refused" || this.#session.state === "stopped";
      since = waits ? 0 : since || Date.now();
      if (since && Date.now() - since > PATIENCE_MS) this.#hls();
      else this.#timer = setTimeout(look, LOOK_MS);
    };
    look();
  }

  #hls() {
    clearTimeout(this.#timer);
    const before = this.#session;
    this.#session = new Playlist(this.target, this.options);
    if (before) {
      this.options.onstate?.("connecting", "");
      before.stop();
    }
  }
}

/** A stream by HLS, tried until `stop`. */
class Playlist {
  #hls = null;
  #options;
  #url;
  #timers = [];
  #failures = 0;
  #bytes = 0;
  #before = null;

  constructor(target, options) {
    this.state = "connecting";
    this.#options = options;
    this.#url = `${String(target).replace(/\/+$/, "")}/index.m3u8`;
    const { video } = options;
    video.addEventListener("playing", this.#playing);
    video.addEventListener("waiting", this.#waiting);
    this.#begin();
  }

  retry({ token } = {}) {
    if (token !== undefined) this.#options.token = token;
    this.#again(0);
  }

  stop() {
    this.#end();
    this.#options.video.removeEventListener("playing", this.#playing);
    this.#options.video.removeEventListener("waiting", this.#waiting);
    this.#say("stopped", "");
  }

  /** Asks for the playlist itself first: that says best what is missing. */
  async #begin() {
    const { token } = this.#options;
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    try {
      const answer = await fetch(this.#url, { headers });
      if (this.state === "stopped") return;
      if (answer.status === 401 || answer.status === 403) return this.#say("refused", "");
      if (answer.status === 404 || answer.status === 503) {
        this.#say("waiting", "");
        return this.#again();
      }
      if (!answer.ok) throw new Error((await answer.text()).trim() || answer.statusText);
      await this.#play(token);
    } catch (error) {
      this.#say("failed", error.message);
      this.#again();
    }
  }

  async #play(token) {
    const { video } = this.#options;
    const { default: Hls, Events } = await import("./hls.light.min.mjs");
    if (this.state === "stopped") return;
    video.srcObject = null;
    if (!Hls.isSupported()) return this.#native(token);
    const hls = new Hls({
      lowLatencyMode: true,
      // The page's policy lets no worker be made of text.
      enableWorker: false,
      backBufferLength: 10,
      xhrSetup: (request) => token && request.setRequestHeader("Authorization", `Bearer ${token}`),
    });
    this.#hls = hls;
    hls.on(Events.MANIFEST_PARSED, () => this.#start());
    hls.on(Events.FRAG_BUFFERED, (_, { stats }) => (this.#bytes += stats.total));
    hls.on(Events.ERROR, (_, { fatal, type, details }) => {
      if (!fatal) return;
      if (type === "mediaError" && this.#failures++ < PAUSES_MS.length) return hls.recoverMediaError();
      this.#say("interrupted", details);
      this.#again();
    });
    hls.loadSource(this.#url);
    hls.attachMedia(video);
    this.#timers.push(setInterval(() => this.#measure(), STATS_MS));
  }

  /** Browsers that play HLS by themselves and have no media source. */
  #native(token) {
    const { video } = this.#options;
    const secret = token ? `?token=${encodeURIComponent(token)}` : "";
    video.src = this.#url + secret;
    video.onerror = () => {
      this.#say("interrupted", "the browser can not play it");
      this.#again();
    };
    this.#start();
  }

  async #start() {
    const { video, onmuted } = this.#options;
    try {
      await video.play();
    } catch (error) {
      if (error.name !== "NotAllowedError") return;
      video.muted = true;
      onmuted?.();
      video.play().catch(() => {});
    }
  }

  #playing = () => {
    this.#failures = 0;
    this.#say("live", "HLS");
  };

  #waiting = () => {
    if (this.state === "live") this.#say("interrupted", "");
  };

  #again(pause = PAUSES_MS[Math.min(this.#failures++, PAUSES_MS.length - 1)]) {
    this.#end();
    if (this.state === "stopped") return;
    this.#timers.push(setTimeout(() => this.#begin(), pause));
  }

  #end() {
    for (const timer of this.#timers.splice(0)) clearTimeout(timer);
    this.#hls?.destroy();
    this.#hls = null;
  }

  #measure() {
    const { video, onstats } = this.#options;
    const quality = video.getVideoPlaybackQuality?.();
    const now = { at: performance.now(), bytes: this.#bytes, frames: quality?.totalVideoFrames ?? 0 };
    const before = this.#before;
    this.#before = now;
    if (!before || this.state !== "live") return;
    const seconds = (now.at - before.at) / 1000;
    const level = this.#hls?.levels?.[Math.max(this.#hls.currentLevel, 0)];
    onstats?.({
      width: video.videoWidth,
      height: video.videoHeight,
      fps: (now.frames - before.frames) / seconds,
      bitrate: ((now.bytes - before.bytes) * 8) / seconds,
      codec: level?.videoCodec ?? "",
      delayMs: (this.#hls?.latency ?? NaN) * 1000,
      dropped: quality?.droppedVideoFrames ?? 0,
      lost: 0,
    });
  }

  #say(state, detail) {
    if (this.state === "stopped") return;
    const news = this.state !== state || detail;
    this.state = state;
    if (news) this.#options.onstate?.(state, detail);
  }
}
