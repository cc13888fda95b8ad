// What the node makes of streams for those who watch them, and what that costs: codec bridges and
// renditions.

import { el, keep, setText } from "./dom.js";
import * as format from "./format.js";

/**
 * Draws the rows.
 *
 * @param {Element} body of the table
 * @param {object} now the status of the node
 * @param {{status: object, seconds: number} | null} before an earlier one, and how long ago that was
 * @returns {boolean} whether there is anything
 */
export function drawCoding(body, now, before) {
  const earlier = new Map(before ? worksOf(before.status).map((work) => [work.key, work]) : []);
  const works = worksOf(now);
  keep(body, works, ({ key }) => key, () => {
    const cells = Array.from({ length: 8 }, (_, index) => el("td", { className: index > 2 ? "number" : "" }));
    const node = el("tr", {}, cells);
    const update = (work) => {
      const then = earlier.get(work.key);
      // Less than before: it began anew meanwhile.
      const worked = then && work.busy >= then.busy ? (work.busy - then.busy) / before.seconds : NaN;
      const texts = [
        work.stream,
        work.does,
        work.state,
        Number.isFinite(work.readers) ? format.whole(work.readers) : "–",
        Number.isFinite(work.taken) ? format.whole(work.taken) : "–",
        format.whole(work.made),
        Number.isFinite(work.dropped) ? format.whole(work.dropped) : "–",
        `${format.percent(worked)} · ${work.busy.toFixed(1)} s`,
      ];
      cells.forEach((cell, index) => setText(cell, texts[index]));
      node.title = work.why;
    };
    return { node, update };
  });
  return works.length > 0;
}

/** Each track and each rendition that is made, in one form. */
function worksOf({ bridges, streams }) {
  return [...bridges.flatMap(tracksOf), ...streams.flatMap(renditionsOf)];
}

function tracksOf(bridge) {
  const { stream, form, readers } = bridge;
  return ["video", "audio"].filter((track) => bridge[track]).map((track) => {
    const { from, into, why, frames_in: taken, frames_out: made, frames_dropped: dropped, busy_seconds: busy } = bridge[track];
    const does = `${from ? format.codec(from) : "–"} → ${format.codec(into)}`;
    const since = format.duration((Date.now() - bridge.since_ms) / 1000);
    return { key: `${stream}#${form} ${track}`, stream, does, why, readers, taken, made, dropped, busy, state: `for ${since}` };
  });
}

function renditionsOf({ name: stream, renditions }) {
  return renditions.map(({ name, width, height, made }) => {
    const size = width ? ` ${width}×${height}` : "";
    const rate = made ? ` · ${format.bitrate(made.bitrate_bps)}` : "";
    return {
      key: `${stream}#rid=${name}`,
      stream,
      does: `rendition ${name}${size}${rate}`,
      state: made ? (made.running ? "being made" : "nobody wants it") : "by its publisher",
      why: "",
      made: made?.pictures ?? 0,
      busy: made?.busy_seconds ?? 0,
    };
  });
}
