// The money of the node. Sums are decimal strings of wei: they are shown as they are and never
// become floating-point numbers.

import { el, keep, setText } from "./dom.js";
import * as format from "./format.js";

/** Words for the fields that are known; others are shown under their own name. */
const WORDS = {
  accepted: "Tickets accepted",
  won: "Tickets won",
  redeemed: "Tickets redeemed",
  refused: "Tickets refused",
  tickets_accepted: "Tickets accepted",
  tickets_won: "Tickets won",
  tickets_redeemed: "Tickets redeemed",
  tickets_refused: "Tickets refused",
  fees_wei: "Fees",
  wei_per_minute: "Per minute",
  at_risk_wei: "At risk",
  risk_limit_wei: "Limit of risk",
  debt_limit_wei: "Limit of debt",
  deposit_wei: "Deposit",
  reserve_wei: "Reserve",
  oldest_winner_seconds: "Oldest winner not redeemed",
};

/** Draws whatever the node says about money; objects within become groups, lists become tables. */
export function drawMoney(parent, money) {
  parent.classList.add("money");
  const groups = [["", plain(money)]];
  for (const [name, value] of Object.entries(money)) {
    if (Array.isArray(value)) groups.push([name, value]);
    else if (value && typeof value === "object") groups.push([name, plain(value)]);
  }
  const filled = groups.filter(([, content]) => content.length > 0);
  keep(parent, filled, ([name]) => name, ([name]) => {
    const content = el("div");
    const node = el("div", {}, name ? el("h3", { textContent: word(name) }) : null, content);
    return { node, update: ([, value]) => (isTable(value) ? table(content, value) : facts(content, value)) };
  });
}

const isTable = (value) => value.length > 0 && !Array.isArray(value[0]);

function plain(object) {
  return Object.entries(object).filter(([, value]) => value !== null && typeof value !== "object");
}

function facts(parent, entries) {
  const list = parent.firstChild ?? parent.appendChild(el("dl", { className: "facts" }));
  keep(list, entries, ([key]) => key, ([key]) => {
    const value = el("dd");
    const node = el("div", {}, el("dt", { textContent: word(key) }), value);
    return { node, update: ([, now]) => setText(value, figure(key, now)) };
  });
}

function table(parent, rows) {
  const columns = [...new Set(rows.flatMap((row) => plain(row).map(([key]) => key)))];
  const numeric = (key) => rows.every((row) => /^-?\d*$/.test(String(row[key] ?? "")));
  const cell = (tag, key, text) => el(tag, { textContent: text, className: numeric(key) ? "number" : "" });
  const head = el("tr", {}, columns.map((key) => cell("th", key, word(key))));
  const body = rows.map((row) => el("tr", {}, columns.map((key) => cell("td", key, figure(key, row[key] ?? "")))));
  const drawn = el("table", { className: "figures" }, el("thead", {}, head), el("tbody", {}, body));
  parent.replaceChildren(el("div", { className: "scroll" }, drawn));
}

function figure(key, value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (key.endsWith("_seconds")) return format.duration(Number(value));
  if (/^-?\d+$/.test(String(value))) return format.whole(value) + (/wei/.test(key) ? " wei" : "");
  return String(value);
}

function word(key) {
  if (WORDS[key]) return WORDS[key];
  const text = key.replace(/_wei$/, "").replace(/_seconds$/, "").replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}
