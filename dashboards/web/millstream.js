/**
 * Millstream in a browser: publish a stream (WHIP, RFC 9725), watch one (WHEP), change the
 * parameters of its graph.
 *
 *     import { publish, watch, parameters } from "https://host:8889/assets/millstream.js";
 *     const viewer = watch({ host: "host:8889", stream: "cam-out" }, { video });
 *
 * No build step, no dependencies; usable from every origin that the node allows. Both directions
 * keep trying until `stop()`: a stream that is not there yet is waited for, a connection that
 * breaks is mended by an ICE restart or made anew.
 *
 * @module millstream
 */

/**
 * What a session is doing.
 * - `connecting`: signalling and the first packets are on their way
 * - `waiting`: there is no such stream yet; it is asked for again
 * - `live`: media flows
 * - `interrupted`: media stopped; the session is being mended
 * - `refused`: credentials are missing or wrong; `retry({token})` goes on
 * - `failed`: the server does not take this (a taken name, codecs, no room); it is tried again
 * - `stopped`: ended by `stop()`
 * @typedef {"connecting"|"waiting"|"live"|"interrupted"|"refused"|"failed"|"stopped"} State
 */

/**
 * Where a stream is: the address of its page, of its WHIP or WHEP endpoint, or its parts.
 * @typedef {string|URL|{host?: string, stream: string, secure?: boolean}} Target
 */

/** Pauses between attempts in milliseconds; the last one stays. */
const PAUSES_MS = [250, 500, 1000, 2000, 3000];
/** The longest wait for our own addresses before the offer goes out. */
const GATHER_MS = 1000;
/** The longest wait for media after the answer. */
const CONNECT_MS = 10_000;
/** Silence after which a viewer's session counts as broken. */
const SILENCE_MS = 4000;
/** How long an unreachable peer may come back by itself before an ICE restart. */
const DISCONNECT_MS = 1500;
/** How long an ICE restart may take. */
const RESTART_MS = 4000;
/** Distance of statistics. */
const STATS_MS = 1000;
/** The label of data channels that the node answers on. */
const CHANNEL = "millstream";
/** The longest message that the node takes, in bytes. */
const MESSAGE_BYTES = 65_536;
/** The longest wait for an answer on a data channel. */
const ANSWER_MS = 5000;

/** An answer of the server that is not the wanted one. */
export class ServerError extends Error {
  /**
   * @param {number} status the HTTP status
   * @param {string} message what the server said
   * @param {number} retryAfterMs when it wants to be asked again, or 0
   */
  constructor(status, message, retryAfterMs = 0) {
    super(message);
    this.name = "ServerError";
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

/**
 * Publishes a stream.
 *
 * @param {Target} target where to
 * @param {object} options
 * @param {MediaStream} options.stream picture, sound, or both
 * @param {string} [options.token] password or token, `user:password` where a user is wanted
 * @param {number} [options.videoBitrate] the most bits per second of the picture
 * @param {string} [options.preferCodec] the codec that is offered first; "H264" by default
 * @param {boolean} [options.channel] opens a data channel for {@link parameters}
 * @param {(state: State, detail: string) => void} [options.onstate] told at each change
 * @param {(stats: PublishStats) => void} [options.onstats] told each second
 * @returns {Session}
 */
export function publish(target, options) {
  const { stream, videoBitrate, preferCodec = "H264" } = options;
  const prepare = (peer) => {
    for (const track of stream.getTracks()) {
      const video = track.kind === "video";
      const encoding = video && videoBitrate ? { maxBitrate: videoBitrate } : {};
      const transceiver = peer.addTransceiver(track, {
        direction: "sendonly",
        streams: [stream],
        sendEncodings: [encoding],
      });
      if (video) prefer(transceiver, preferCodec);
    }
  };
  const accept = (sdp) => (videoBitrate ? startBitrate(sdp, videoBitrate) : sdp);
  return new Session(endpoint(target, "whip"), { ...options, sends: true, prepare, accept });
}

/**
 * Watches a stream.
 *
 * @param {Target} target which
 * @param {object} options
 * @param {HTMLVideoElement} options.video where it is shown; its `muted` is kept, unless the
 *     browser forbids sound before a click: then it is muted and `onmuted` is called
 * @param {string} [options.token] password or token, `user:password` where a user is wanted
 * @param {(state: State, detail: string) => void} [options.onstate] told at each change
 * @param {(stats: WatchStats) => void} [options.onstats] told each second
 * @param {() => void} [options.onmuted] the browser wants a click before there is sound
 * @param {(results: object, picture: {rtp: number, pts: number}) => void} [options.onresults] told
 *   what the graph's nodes say of each picture; `rtp` is its timestamp, that of
 *   `requestVideoFrameCallback` too
 * @param {boolean} [options.channel] opens a data channel for {@link parameters}
 * @returns {Session}
 */
export function watch(target, options) {
  const { video, onmuted } = options;
  const prepare = (peer, flows) => {
    const media = new MediaStream();
    for (const kind of ["video", "audio"]) {
      const { receiver } = peer.addTransceiver(kind, { direction: "recvonly" });
      lowestDelay(receiver);
    }
    peer.addEventListener("track", ({ track, receiver }) => {
      lowestDelay(receiver);
      // The last picture of a broken session stays until the new one has something to show.
      track.addEventListener("unmute", () => {
        if (!media.getTracks().includes(track)) media.addTrack(track);
        if (video.srcObject !== media) {
          video.srcObject = media;
          play(video, onmuted);
        }
        flows();
      });
    });
  };
  const offer = (sdp) => sdp.replace(/(a=fmtp:\d+ minptime=10;useinbandfec=1)(?!;stereo)/g, "$1;stereo=1");
  return new Session(endpoint(target, "whep"), { ...options, sends: false, prepare, offer });
}

/**
 * Reads and changes the graph of a stream that is being processed.
 *
 * @param {string} base address of the node, `https://host:8889`; "" for the page's own
 * @param {string} stream name of the published stream
 * @param {object} [options]
 * @param {string} [options.token] credentials of a publisher
 * @param {Session} [options.session] of {@link publish} or {@link watch} with `channel`, on this
 *     stream or its processed one: its data channel is used while it is open, HTTP otherwise
 * @param {Carrier} [options.carrier] another road for the same questions than HTTP
 * @returns {Parameters}
 */
export function parameters(base, stream, { token, session, carrier } = {}) {
  const road = `${base}/live/video-to-video/${encodeURIComponent(stream)}`;
  const read = async () => {
    const response = await fetch(`${road}/status`, { headers: bearer(token) });
    return (await answerOf(response)).processing?.prompt ?? null;
  };
  const write = `${road}/update`;
  const http = httpCarrier({ read, write, token });
  return new Parameters(carrier ?? (session ? channelCarrier(session, http) : http));
}

/**
 * What takes questions about parameters to the node.
 * @typedef {object} Carrier
 * @property {() => Promise<object|null>} read the graph in force
 * @property {(prompt: object) => Promise<object>} write a new graph; the answer is
 *     `{state: "applied", pts}`, `{state: "pending"}` or `{state: "refused", error}`
 */

/**
 * Questions over HTTP.
 * @param {object} options
 * @param {(() => Promise<object|null>)|string} options.read address of the graph in force
 * @param {string} options.write address that takes a new graph
 * @param {string} [options.token] credentials
 * @returns {Carrier}
 */
export function httpCarrier({ read, write, token }) {
  return {
    read: typeof read === "function" ? read : async () => answerOf(await fetch(read, { headers: bearer(token) })),
    async write(prompt) {
      const headers = { "Content-Type": "application/json", ...bearer(token) };
      const response = await fetch(write, { method: "POST", headers, body: JSON.stringify(prompt) });
      const body = await response.json().catch(() => null);
      if (!body?.state) throw refusal(response, body);
      return body;
    },
  };
}

/**
 * Questions over the data channel of a session while it is open, over another road otherwise. What
 * the credentials of the session do not allow, or what is too long, goes the other way too.
 * @param {Session} session of {@link publish} or {@link watch} with `channel`
 * @param {Carrier} otherwise the other road
 * @returns {Carrier}
 */
export function channelCarrier(session, otherwise) {
  return {
    async read() {
      if (!session.canAsk) return otherwise.read();
      const answer = await session.ask({ type: "graph" });
      if (answer.error?.type === "unknown_stream") return null;
      if (answer.error) throw new Error(answer.error.message);
      return answer.prompt ?? null;
    },
    async write(prompt) {
      const question = { type: "update", prompt };
      const fits = new TextEncoder().encode(JSON.stringify(question)).length < MESSAGE_BYTES - 100;
      if (!session.canAsk || !fits) return otherwise.write(prompt);
      const answer = await session.ask(question);
      if (answer.error?.type === "not_allowed") return otherwise.write(prompt);
      if (!answer.state) throw new Error(answer.error?.message ?? "the node did not understand");
      return answer;
    },
  };
}

/** A graph that the node did not take; the old one runs on. */
export class RefusedGraph extends Error {
  /** @param {object} answer ComfyUI's error document: `{error, node_errors}` */
  constructor(answer) {
    super(answer?.error?.message ?? "the graph was refused");
    this.name = "RefusedGraph";
    /**
     * What is wrong, by node and input; `input` is "" where the whole node is meant.
     * @type {{node: string, input: string, message: string}[]}
     */
    this.faults = [];
    for (const [node, { errors = [] }] of Object.entries(answer?.node_errors ?? {})) {
      for (const { message, details, extra_info: extra } of errors) {
        const text = details ? `${message}: ${details}` : message;
        this.faults.push({ node, input: extra?.input_name ?? "", message: text });
      }
    }
  }
}

/** The graph of one stream. */
export class Parameters {
  /** @param {Carrier} carrier */
  constructor(carrier) {
    this.carrier = carrier;
  }

  /**
   * The graph in force, in ComfyUI's API form; null when the stream is not processed.
   * @returns {Promise<object|null>}
   */
  get() {
    return this.carrier.read();
  }

  /**
   * Puts a new graph in force.
   * @param {object} prompt in ComfyUI's API form
   * @returns {Promise<{pts: number|null}>} the first frame that it affects (90 kHz); null when no
   *     answer came within the node's limit, the change being still on its way
   * @throws {RefusedGraph} with node and input named
   */
  async set(prompt) {
    const answer = await this.carrier.write(prompt);
    if (answer.state === "refused") throw new RefusedGraph(answer.error);
    return { pts: answer.pts ?? null };
  }

  /**
   * Changes one input of the graph in force.
   * @param {string} node its id in the graph
   * @param {string} input its name
   * @param {unknown} value the new value
   * @returns {Promise<{pts: number|null}>}
   */
  async change(node, input, value) {
    const prompt = await this.get();
    if (!prompt?.[node]) throw new RefusedGraph({ error: { message: `there is no node ${node}` } });
    prompt[node].inputs[input] = value;
    return this.set(prompt);
  }
}

/** One direction of one stream, until `stop()`. */
class Session {
  /** @type {State} */
  state = "connecting";
  /** The connection in use, for more than this module tells. @type {RTCPeerConnection|null} */
  peer = null;

  #options;
  #stopped = false;
  #broken = () => {};
  #wake = () => {};
  #previous = null;
  #channel = null;
  #away = false;
  #asked = 0;
  /** Questions without an answer, by id. */
  #questions = new Map();

  constructor(url, options) {
    /** The endpoint. */
    this.url = url;
    this.#options = options;
    addEventListener("online", this.#online);
    this.#run();
  }

  /** Ends the session; the server is told. */
  stop() {
    if (this.#stopped) return;
    this.#stopped = true;
    removeEventListener("online", this.#online);
    this.#broken("stopped");
    this.#wake();
    this.#say("stopped", "");
  }

  /**
   * Tries again at once, with other credentials if given.
   * @param {{token?: string}} [change]
   */
  retry({ token } = {}) {
    if (token !== undefined) this.#options.token = token;
    this.#wake();
  }

  /** Whether there is an open data channel. */
  get canAsk() {
    return this.#channel?.readyState === "open";
  }

  /**
   * Asks the node something over the data channel.
   * @param {{type: string}} question a document of `docs/api.md`; its `id` is put in here
   * @returns {Promise<object>} the answer
   */
  ask(question) {
    if (!this.canAsk) return Promise.reject(new Error("the data channel is not open"));
    const id = String(++this.#asked);
    return new Promise((resolve, reject) => {
      const settle = (how, value) => {
        clearTimeout(timer);
        this.#questions.delete(id);
        how(value);
      };
      const fail = (text) => settle(reject, new Error(text));
      const timer = setTimeout(() => fail("the node did not answer"), ANSWER_MS);
      this.#questions.set(id, { answer: (document) => settle(resolve, document), fail });
      try {
        this.#channel.send(JSON.stringify({ ...question, id }));
      } catch (error) {
        fail(error.message);
      }
    });
  }

  #listen(channel) {
    this.#channel = channel;
    channel.addEventListener("message", ({ data }) => {
      const document = JSON.parse(data);
      if (document.type === "stream") return this.#presence(document.state === "online");
      if (document.type === "results") return this.#options.onresults?.(document.results, document);
      this.#questions.get(document.id)?.answer(document);
    });
    channel.addEventListener("close", () => {
      if (this.#channel !== channel) return;
      this.#channel = null;
      for (const { fail } of [...this.#questions.values()]) fail("the data channel was closed");
    });
  }

  /** The node says that the publisher left, or that one is there again. */
  #presence(online) {
    this.#away = !online;
    this.#previous = null;
    this.#say(online ? "live" : "waiting", online ? "" : "the publisher left");
  }

  /**
   * Limits the picture's bitrate from now on.
   * @param {number} bitsPerSecond
   */
  async setVideoBitrate(bitsPerSecond) {
    const sender = this.peer?.getSenders().find(({ track }) => track?.kind === "video");
    if (!sender) return;
    const settings = sender.getParameters();
    if (!settings.encodings?.length) return;
    for (const encoding of settings.encodings) encoding.maxBitrate = bitsPerSecond;
    await sender.setParameters(settings);
  }

  async #run() {
    let failures = 0;
    let said = "connecting";
    while (!this.#stopped) {
      let pause = 0;
      try {
        this.#say(said === "live" ? "interrupted" : said, "");
        await this.#once(() => {
          failures = 0;
          said = "live";
        });
      } catch (error) {
        if (this.#stopped) break;
        said = stateOf(error, said);
        pause = error.retryAfterMs || 0;
        this.#say(said, error.message);
      }
      if (this.#stopped) break;
      const step = PAUSES_MS[Math.min(failures++, PAUSES_MS.length - 1)];
      const wait = said === "refused" ? Infinity : Math.max(step, pause) * (0.8 + 0.4 * Math.random());
      await new Promise((resolve) => {
        this.#wake = resolve;
        if (Number.isFinite(wait)) setTimeout(resolve, wait);
      });
      if (said === "refused" || said === "failed") said = "connecting";
    }
  }

  /** One connection, from offer to end. */
  async #once(live) {
    const { prepare, offer, accept, sends } = this.#options;
    const peer = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    this.peer = peer;
    this.#previous = null;
    const ended = new Promise((resolve) => (this.#broken = resolve));
    const flowing = new Promise((resolve) => {
      prepare(peer, resolve);
      if (sends) peer.addEventListener("connectionstatechange", () => peer.connectionState === "connected" && resolve());
    });
    this.#away = false;
    if (this.#options.channel || !this.#options.sends) this.#listen(peer.createDataChannel(CHANNEL));
    let resource = null;
    let timer = 0;
    try {
      await describe(peer, offer);
      if (this.#stopped) return;
      resource = await this.#post(peer, accept);
      if (this.#stopped) return;
      const late = pauseFor(CONNECT_MS).then(() => "no media came");
      const first = await Promise.race([flowing.then(() => ""), late, ended]);
      if (first) throw new Error(first);
      live();
      this.#say("live", "");
      timer = setInterval(() => this.#measure(peer), STATS_MS);
      this.#guard(peer, resource);
      await ended;
    } finally {
      clearInterval(timer);
      peer.close();
      if (resource) forget(resource.url);
    }
  }

  async #post(peer, accept = (sdp) => sdp) {
    const response = await fetch(this.url, {
      method: "POST",
      headers: { "Content-Type": "application/sdp", ...bearer(this.#options.token) },
      body: peer.localDescription.sdp,
    });
    if (!response.ok) {
      const after = Number(response.headers.get("Retry-After")) || 0;
      const text = (await response.text()).trim();
      throw new ServerError(response.status, text || response.statusText, Math.min(after, 10) * 1000);
    }
    const location = response.headers.get("Location");
    const url = location ? new URL(location, this.url).href : null;
    const answer = await response.text();
    await peer.setRemoteDescription({ type: "answer", sdp: accept(answer) });
    return { url, answer };
  }

  /** Notices that the other end is gone, and mends what an ICE restart can mend. */
  #guard(peer, resource) {
    let mending = false;
    const mend = async () => {
      if (mending || peer.signalingState === "closed") return;
      mending = true;
      this.#say("interrupted", "the connection is being restored");
      try {
        await restartIce(peer, resource);
        const until = Date.now() + RESTART_MS;
        while (peer.connectionState !== "connected") {
          if (Date.now() > until || peer.connectionState === "closed") throw new Error("no way found");
          await pauseFor(100);
        }
        this.#say("live", "");
      } catch {
        this.#broken("the connection is lost");
      }
      mending = false;
    };
    peer.addEventListener("connectionstatechange", async () => {
      switch (peer.connectionState) {
        case "disconnected":
          await pauseFor(DISCONNECT_MS);
          if (peer.connectionState === "disconnected") mend();
          break;
        case "failed":
          mend();
          break;
        case "closed":
          this.#broken("the connection was closed");
      }
    });
    for (const { sender } of peer.getTransceivers()) {
      sender.transport?.addEventListener("statechange", ({ target }) => {
        if (target.state === "closed") this.#broken("the server ended the session");
      });
    }
    this.#mend = mend;
  }

  #mend = () => {};

  /** The machine is on a network again: do not wait for timers. */
  #online = () => {
    this.#wake();
    if (this.peer && this.peer.connectionState !== "connected") this.#mend();
  };

  async #measure(peer) {
    const reports = await peer.getStats().catch(() => null);
    if (!reports || peer !== this.peer || this.#stopped) return;
    const now = this.#options.sends ? sent(reports) : received(reports);
    const before = this.#previous;
    this.#previous = now;
    if (!before) return;
    if (now.bytes !== before.bytes) now.movedAt = now.at;
    else now.movedAt = before.movedAt ?? before.at;
    // The node ends the session itself when the publisher stays away.
    if (!this.#options.sends && !this.#away && now.at - now.movedAt > SILENCE_MS) {
      this.#broken("nothing came for some seconds");
      return;
    }
    this.#options.onstats?.(difference(before, now));
  }

  #say(state, detail) {
    if (this.state === "stopped") return;
    const news = this.state !== state || detail;
    this.state = state;
    if (news) this.#options.onstate?.(state, detail);
  }
}

/**
 * Of the last second, seen by a viewer.
 * @typedef {object} WatchStats
 * @property {number} width in pixels
 * @property {number} height in pixels
 * @property {number} fps pictures decoded
 * @property {number} bitrate bits per second, picture and sound
 * @property {number|null} bufferMs time in the jitter buffer
 * @property {number|null} decodeMs time in the decoder
 * @property {number|null} roundTripMs to the server and back
 * @property {number|null} delayMs half a round trip, jitter buffer and decoder: from the server to
 *     the screen, without the screen's own time
 * @property {number} dropped pictures dropped since the beginning
 * @property {number} lost packets lost since the beginning
 * @property {number} freezes pauses of the picture since the beginning
 * @property {string} codec "H264"
 */

/**
 * Of the last second, seen by a publisher.
 * @typedef {object} PublishStats
 * @property {number} width in pixels
 * @property {number} height in pixels
 * @property {number} fps pictures sent
 * @property {number} bitrate bits per second, picture and sound
 * @property {number|null} roundTripMs to the server and back
 * @property {string} limited why the picture is not better: "none", "bandwidth", "cpu", "other"
 * @property {string} codec "H264"
 */

function received(reports) {
  const now = { at: 0, bytes: 0, frames: 0, dropped: 0, lost: 0, freezes: 0, width: 0, height: 0, codec: "" };
  each(reports, (report) => {
    if (report.type !== "inbound-rtp") return;
    now.at = report.timestamp;
    now.bytes += report.bytesReceived ?? 0;
    now.lost += report.packetsLost ?? 0;
    if (report.kind !== "video") return;
    now.frames = report.framesDecoded ?? 0;
    now.dropped = report.framesDropped ?? 0;
    now.freezes = report.freezeCount ?? 0;
    now.width = report.frameWidth ?? 0;
    now.height = report.frameHeight ?? 0;
    now.codec = codecOf(reports, report);
    now.buffer = report.jitterBufferDelay;
    now.buffered = report.jitterBufferEmittedCount;
    now.decode = report.totalDecodeTime;
  });
  now.roundTrip = roundTrip(reports);
  return now;
}

function sent(reports) {
  const now = { at: 0, bytes: 0, frames: 0, width: 0, height: 0, codec: "", limited: "none" };
  each(reports, (report) => {
    if (report.type !== "outbound-rtp") return;
    now.at = report.timestamp;
    now.bytes += report.bytesSent ?? 0;
    if (report.kind !== "video") return;
    now.frames = report.framesSent ?? report.framesEncoded ?? 0;
    now.width = report.frameWidth ?? 0;
    now.height = report.frameHeight ?? 0;
    now.codec = codecOf(reports, report);
    now.limited = report.qualityLimitationReason ?? "none";
  });
  now.roundTrip = roundTrip(reports);
  return now;
}

function difference(before, now) {
  const seconds = Math.max(now.at - before.at, 1) / 1000;
  const roundTripMs = now.roundTrip === undefined ? null : now.roundTrip * 1000;
  const stats = {
    width: now.width,
    height: now.height,
    codec: now.codec,
    fps: (now.frames - before.frames) / seconds,
    bitrate: ((now.bytes - before.bytes) * 8) / seconds,
    roundTripMs,
  };
  if (now.limited !== undefined) return { ...stats, limited: now.limited };
  const mean = (sum, count) => (count > 0 && Number.isFinite(sum) ? (sum / count) * 1000 : null);
  const bufferMs = mean(now.buffer - before.buffer, now.buffered - before.buffered);
  const decodeMs = mean(now.decode - before.decode, now.frames - before.frames);
  const delayMs = bufferMs === null ? null : (roundTripMs ?? 0) / 2 + bufferMs + (decodeMs ?? 0);
  const { dropped, lost, freezes } = now;
  return { ...stats, bufferMs, decodeMs, delayMs, dropped, lost, freezes };
}

function each(reports, visit) {
  reports.forEach((report) => visit(report));
}

function codecOf(reports, report) {
  return (reports.get(report.codecId)?.mimeType ?? "").replace(/^.*\//, "");
}

function roundTrip(reports) {
  let found;
  each(reports, (report) => {
    const inUse = report.type === "candidate-pair" && report.state === "succeeded" && report.nominated !== false;
    if (inUse && report.currentRoundTripTime !== undefined) found = report.currentRoundTripTime;
  });
  return found;
}

function stateOf(error, before) {
  if (!(error instanceof ServerError)) return before === "live" ? "interrupted" : before;
  switch (error.status) {
    case 401:
    case 403:
      return "refused";
    case 404:
      return "waiting";
    default:
      return "failed";
  }
}

/** The endpoint of a target. */
function endpoint(target, kind) {
  if (typeof target === "string" || target instanceof URL) {
    const url = new URL(target, globalThis.location?.href);
    if (!/\/wh[ie]p$/.test(url.pathname)) url.pathname = url.pathname.replace(/\/*$/, `/${kind}`);
    return url.href;
  }
  const { host = location.host, stream, secure = globalThis.location?.protocol === "https:" } = target;
  return `${secure ? "https" : "http"}://${host}/${path(stream)}/${kind}`;
}

function path(stream) {
  return stream.split("/").map(encodeURIComponent).join("/");
}

function bearer(token) {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function answerOf(response) {
  if (response.ok) return response.json();
  const body = await response.json().catch(() => null);
  throw refusal(response, body);
}

/** What the node said in an answer that is not the wanted one. */
function refusal(response, body) {
  const text = body?.error?.message ?? body?.error ?? response.statusText;
  return new ServerError(response.status, text || `HTTP ${response.status}`);
}

/** Makes the offer and waits for our addresses, so that no trickling is needed. */
async function describe(peer, change = (sdp) => sdp) {
  const offer = await peer.createOffer();
  await peer.setLocalDescription({ type: "offer", sdp: change(offer.sdp) });
  await gathered(peer);
}

async function gathered(peer) {
  if (peer.iceGatheringState === "complete") return;
  const complete = new Promise((resolve) => {
    peer.addEventListener("icegatheringstatechange", () => peer.iceGatheringState === "complete" && resolve());
  });
  await Promise.race([complete, pauseFor(GATHER_MS)]);
}

/** RFC 9725, section 4.3.3: new credentials for the same session by PATCH. */
async function restartIce(peer, { url, answer }) {
  if (!url) throw new Error("the server named no session");
  const offer = await peer.createOffer({ iceRestart: true });
  await peer.setLocalDescription(offer);
  await gathered(peer);
  const response = await fetch(url, {
    method: "PATCH",
    headers: { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*" },
    body: fragmentOf(peer.localDescription.sdp),
  });
  if (!response.ok) throw new ServerError(response.status, response.statusText);
  const fragment = await response.text();
  await peer.setRemoteDescription({ type: "answer", sdp: withFragment(answer, fragment) });
}

/** The lines of a description that an ICE restart sends: of its first section, which bundles all. */
function fragmentOf(sdp) {
  const [head, first = ""] = sdp.split(/^(?=m=)/m);
  const lines = (text, ...names) =>
    text.split(/\r?\n/).filter((line) => names.some((name) => line.startsWith(`a=${name}:`)));
  const media = first.split(/\r?\n/, 1);
  const ice = ["ice-ufrag", "ice-pwd"];
  const own = [...lines(head, ...ice), ...lines(first, ...ice)];
  return [...lines(head, "group"), ...own, ...media, ...lines(first, "mid", "candidate"), ""].join("\r\n");
}

/** An answer with the credentials and candidates of a fragment. */
function withFragment(answer, fragment) {
  const find = (name) => fragment.match(new RegExp(`^a=${name}:(.*?)\\r?$`, "m"))?.[1];
  const [ufrag, password] = [find("ice-ufrag"), find("ice-pwd")];
  if (!ufrag || !password) throw new Error("the server's answer to the ICE restart has no credentials");
  return answer
    .replace(/^a=ice-ufrag:.*?(?=\r?$)/gm, `a=ice-ufrag:${ufrag}`)
    .replace(/^a=ice-pwd:.*?(?=\r?$)/gm, `a=ice-pwd:${password}`);
}

/** Puts a codec first, among those that the browser has. */
function prefer(transceiver, name) {
  const codecs = RTCRtpSender.getCapabilities?.("video")?.codecs ?? [];
  const wanted = ({ mimeType }) => mimeType.toLowerCase() === `video/${name.toLowerCase()}`;
  // Of H.264 the one that every viewer takes: constrained baseline, packetization-mode 1.
  const rank = (codec) => {
    if (!wanted(codec)) return 3;
    const line = codec.sdpFmtpLine ?? "";
    if (!/packetization-mode=1/.test(line)) return 2;
    return /profile-level-id=42e0/i.test(line) ? 0 : 1;
  };
  const ordered = codecs.map((codec, index) => [rank(codec), index, codec]);
  ordered.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  try {
    if (codecs.some(wanted)) transceiver.setCodecPreferences?.(ordered.map(([, , codec]) => codec));
  } catch {
    // An older browser that does not take its own list: its order then.
  }
}

/** Chromium begins at 300 kbit/s and takes seconds to rise; this hint is known to it alone. */
function startBitrate(sdp, bitrate) {
  const kilobits = Math.round(Math.min(bitrate, 4_000_000) / 1000);
  return sdp.replace(/^(a=fmtp:\d+ .*profile-level-id=[^\r\n]*)/gm, `$1;x-google-start-bitrate=${kilobits}`);
}

function lowestDelay(receiver) {
  if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
  if ("playoutDelayHint" in receiver) receiver.playoutDelayHint = 0;
}

async function play(video, onmuted) {
  try {
    await video.play();
  } catch (error) {
    if (error.name !== "NotAllowedError" || video.muted) return;
    video.muted = true;
    onmuted?.();
    await video.play().catch(() => {});
  }
}

/** Tells the server that a session is over; also while the page is being left. */
function forget(url) {
  fetch(url, { method: "DELETE", keepalive: true }).catch(() => {});
}

function pauseFor(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
