// What the pages for viewers and publishers know of the node: its streams, its facts, and the
// passwords that were typed in.

const NODE = "/assets/node.json";
const STREAMS = "/assets/streams.json";
const OUT = "-out";

/** The stream that this page's address names. `ending` is what follows it. */
export function streamOfPage(ending = "") {
  const path = location.pathname.replace(/^\/+/, "");
  const name = ending && path.endsWith(`/${ending}`) ? path.slice(0, -ending.length - 1) : path;
  return name.replace(/\/+$/, "");
}

/** The processed stream of a published one. */
export const outOf = (name) => `${name}${OUT}`;

/** The address of a stream's page on this host. */
export const pageOf = (name, ending = "") => `/${name}/${ending}`;

/** What the node says of itself; empty when it cannot be asked. */
export async function nodeFacts() {
  return fetchJson(NODE).catch(() => ({}));
}

/** All streams. */
export const listStreams = () => fetchJson(STREAMS);

/**
 * Calls `seen(streams)` now and every `everyMs`, and `lost()` when the node does not answer.
 * Hidden pages do not ask.
 */
export function followStreams(everyMs, seen, lost = () => {}) {
  let timer = 0;
  const turn = async () => {
    clearTimeout(timer);
    if (!document.hidden) {
      try {
        seen(await listStreams());
      } catch {
        lost();
      }
    }
    timer = setTimeout(turn, everyMs);
  };
  document.addEventListener("visibilitychange", () => document.hidden || turn());
  turn();
}

/**
 * Source and processed streams side by side.
 * @returns {{name: string, source: object|null, processed: object|null}[]}
 */
export function paired(streams) {
  const pairs = new Map();
  for (const stream of streams) {
    if (stream.name.includes("#")) continue;
    const name = stream.processed ? stream.name.slice(0, -OUT.length) : stream.name;
    const pair = pairs.get(name) ?? { name, source: null, processed: null };
    pair[stream.processed ? "processed" : "source"] = stream;
    pairs.set(name, pair);
  }
  return [...pairs.values()].sort((a, b) => a.name.localeCompare(b.name));
}

/** How many watch a pair of streams. */
export function viewersOf({ source, processed }) {
  return (source?.readers ?? 0) + (processed?.readers ?? 0);
}

/** Credentials from the page's address, else those typed in before for this kind of use. */
export function credentials(kind) {
  const query = new URLSearchParams(location.search);
  const token = query.get("token") ?? query.get("jwt");
  if (token) return token;
  const [end, signature] = [query.get("exp"), query.get("sig")];
  if (signature) return `exp=${end}&sig=${signature}`;
  const [user, password] = [query.get("user"), query.get("pass")];
  if (password) return user ? `${user}:${password}` : password;
  try {
    return sessionStorage.getItem(`millstream-${kind}`) ?? "";
  } catch {
    return "";
  }
}

/** Keeps typed-in credentials until the tab is closed. */
export function rememberCredentials(kind, token) {
  try {
    sessionStorage.setItem(`millstream-${kind}`, token);
  } catch {
    // Storage may be forbidden to embedded pages: then it is asked again.
  }
}

async function fetchJson(url) {
  const response = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(5000) });
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  return response.json();
}
