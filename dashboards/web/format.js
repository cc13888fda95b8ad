// Figures as people read them.

/** 1234567 → "1.23 M"; with a unit "1.23 Mbit/s". */
export function scaled(value, unit = "") {
  if (!Number.isFinite(value)) return "–";
  const [factor, prefix] = Math.abs(value) >= 1e9 ? [1e9, "G"] : Math.abs(value) >= 1e6 ? [1e6, "M"] : Math.abs(value) >= 1e3 ? [1e3, "k"] : [1, ""];
  const shown = value / factor;
  const digits = factor === 1 ? 0 : Math.abs(shown) >= 100 ? 0 : Math.abs(shown) >= 10 ? 1 : 2;
  return `${shown.toFixed(digits)} ${prefix}${unit}`.trim();
}

/** Bits per second. */
export const bitrate = (value) => scaled(value, "bit/s");

/** Bytes. */
export const bytes = (value) => scaled(value, "B");

/** A rate with at most one decimal. */
export function rate(value) {
  if (!Number.isFinite(value)) return "–";
  return Math.abs(value) >= 99.95 || Math.abs(value - Math.round(value)) < 0.05 ? String(Math.round(value)) : value.toFixed(1);
}

/** Milliseconds: "8.4 ms", "120 ms", "1.2 s". */
export function milliseconds(value) {
  if (!Number.isFinite(value)) return "–";
  if (value >= 1000) return `${(value / 1000).toFixed(value >= 10_000 ? 0 : 1)} s`;
  return `${value >= 20 ? Math.round(value) : value >= 1 ? value.toFixed(1) : value.toFixed(2)} ms`;
}

/** Seconds as "3 d 4 h", "5 min 2 s". */
export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const parts = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => s >= size);
  if (first < 0) return "0 s";
  let rest = s;
  const words = parts.map(([size, unit]) => {
    const count = Math.floor(rest / size);
    rest %= size;
    return `${count} ${unit}`;
  });
  return words.slice(first, first + 2).join(" ");
}

/** A share as per cent. */
export function percent(share) {
  if (!Number.isFinite(share)) return "–";
  const value = share * 100;
  return `${value === 0 || value >= 10 ? Math.round(value) : value.toFixed(value >= 1 ? 1 : 2)} %`;
}

/** A whole number, also a decimal string of any length, with thin spaces: "12 345". */
export function whole(value) {
  return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

/** A codec's name as people write it. */
export function codec(name) {
  const known = { h264: "H.264", h265: "H.265", hevc: "H.265", aac: "AAC", opus: "Opus", vp8: "VP8", vp9: "VP9", av1: "AV1" };
  return known[String(name).toLowerCase().replace(".", "")] ?? String(name);
}
