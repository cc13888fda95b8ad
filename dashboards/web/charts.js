// Small charts, drawn as SVG.

import { svg } from "./dom.js";
import { milliseconds } from "./format.js";

/** Two courses over the same time, such as frames a second in and out. */
export function sparkline({ width = 130, height = 28, label }) {
  const lines = { in: svg("polyline", { class: "in" }), out: svg("polyline", { class: "out" }) };
  const node = svg("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, lines.in, lines.out);
  const draw = (series, places) => {
    const highest = Math.max(1, ...series.in, ...series.out) * 1.12;
    for (const name of ["in", "out"]) {
      const points = series[name].map((value, index) => {
        const x = ((places - series[name].length + index) / (places - 1)) * width;
        return `${x.toFixed(1)},${(height - 1 - (value / highest) * (height - 2)).toFixed(1)}`;
      });
      lines[name].setAttribute("points", points.join(" "));
    }
  };
  return { node, draw };
}

/**
 * The value below which a share of a histogram lies, within its bucket by even spread.
 * @returns {number|null} null without values; the last bound for what lies above it
 */
export function quantile(bounds, buckets, share) {
  const all = buckets.reduce((sum, count) => sum + count, 0);
  if (all === 0) return null;
  let rest = all * share;
  for (let index = 0; index < bounds.length; index++) {
    if (rest <= buckets[index] && buckets[index] > 0) {
      const low = index > 0 ? bounds[index - 1] : 0;
      return low + (bounds[index] - low) * (rest / buckets[index]);
    }
    rest -= buckets[index];
  }
  return bounds[bounds.length - 1];
}

const WIDTH = 220;
const HEIGHT = 74;
const FLOOR = 58;

/** Bars of a histogram, one as wide as the other, with its bounds below. */
export function histogram(label) {
  const node = svg("svg", { class: "bars", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  const draw = (bounds, buckets) => {
    const all = buckets.reduce((sum, count) => sum + count, 0);
    const highest = Math.max(...buckets, 1);
    const step = WIDTH / buckets.length;
    const parts = [];
    buckets.forEach((count, index) => {
      const height = count > 0 ? Math.max(1.5, (count / highest) * (FLOOR - 4)) : 0;
      const place = { x: (index * step + 1).toFixed(1), width: (step - 2).toFixed(1) };
      parts.push(svg("rect", { ...place, class: "rail", y: 2, height: FLOOR - 2, rx: 1.5 }));
      const range = index === 0 ? `up to ${milliseconds(bounds[0])}` : index === bounds.length ? `above ${milliseconds(bounds[index - 1])}` : `${milliseconds(bounds[index - 1])} to ${milliseconds(bounds[index])}`;
      const share = all ? ((count / all) * 100).toFixed(1) : "0";
      parts.push(svg("rect", { ...place, y: (FLOOR - height).toFixed(1), height: height.toFixed(1), rx: 1.5 }, svg("title", {}, `${range}: ${count} (${share} %)`)));
    });
    for (let index = 1; index < bounds.length; index += 4) {
      const text = bounds[index] >= 1000 ? `${bounds[index] / 1000}s` : `${bounds[index]}ms`;
      parts.push(svg("text", { x: ((index + 1) * step).toFixed(1), y: HEIGHT - 3, "text-anchor": "middle" }, text));
    }
    node.replaceChildren(...parts);
    const p95 = quantile(bounds, buckets, 0.95);
    node.setAttribute("aria-label", p95 === null ? `${label}: no values` : `${label}: 95 % below ${milliseconds(p95)}`);
  };
  return { node, draw };
}
