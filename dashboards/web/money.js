// The money of the node. Sums are decimal strings of wei: they are reckoned with as whole numbers
// and never become floating-point ones.

import { el, keep, setText } from "./dom.js";
import * as format from "./format.js";

/** The parts of the status that speak of money, what they are called, and what leads. */
const PARTS = [
  ["earned", "Earned as orchestrator", ["credit"]],
  ["paid", "Paid as gateway", ["released"]],
  ["money", "Ledger and winners", []],
];

/** Words for the fields that are known; others are shown under their own name. */
const WORDS = {
  accepted: "Tickets accepted",
  won: "Tickets won",
  signed: "Tickets signed",
  settled: "Tickets settled",
  open: "Tickets open",
  resent: "Tickets sent again",
  refused: "Tickets refused",
  admitted: "Frames admitted",
  returned: "Frames sent back",
  dropped: "Frames dropped",
  frames_bad: "Frames broken",
  waits: "Times told to wait",
  held_back: "Times held back",
  sets: "Ticket sets",
  credit: "Credited",
  debit: "Fees of frames",
  released: "Signed for",
  earned: "Earned by frames",
  credited: "Credited by orchestrators",
  debited: "Fees by orchestrators",
  at_risk: "At risk",
  limit: "Limit of risk",
  frames_at_risk: "Limit in frames",
  recipient_frames_at_risk: "Orchestrator's limit in frames",
  fee: "Fee of a frame",
  budget_left: "Budget in hand",
  budget_taken_wei: "Budget taken",
  budget_wei: "Budget",
  redeemed_wei: "Redeemed",
  held_wei: "Waiting for redemption",
  deposit_wei: "Deposit",
  reserve_wei: "Reserve",
  loop_p99_us: "Payment loop, p99",
  accounts: "Accounts on the ledger",
  winners: "Winning tickets by state",
};

/** Fields of wei that do not say so in their names. */
const WEI = new Set(["credit", "debit", "released", "earned", "credited", "debited", "at_risk", "limit", "fee", "budget_left"]);

/**
 * Draws what the node says about money, whatever fields it has.
 *
 * @param {HTMLElement} parent
 * @param {object} status the node's status
 * @param {{at: number, status: object}} first the oldest status at hand, for rates
 * @param {{at: number, status: object}} last the newest
 * @returns {boolean} whether there was anything
 */
export function drawMoney(parent, status, first, last) {
  parent.classList.add("money");
  const minutes = (last.at - first.at) / 60_000;
  const parts = PARTS.filter(([part]) => status[part]).map(([part, title, leads]) => {
    const rate = (key) => [`${key}_per_minute`, perMinute(first.status[part]?.[key], status[part][key], minutes)];
    return { part, title, object: status[part], rates: leads.map(rate).filter(([, value]) => value !== null) };
  });
  keep(parent, parts, ({ part }) => part, ({ title }) => {
    const content = el("div", { className: "money-part" });
    const node = el("section", {}, el("h3", { textContent: title }), content);
    return { node, update: ({ object, rates }) => drawPart(content, object, rates) };
  });
  return parts.length > 0;
}

/** Growth of a sum within a minute; null while too little time has passed. */
function perMinute(before, now, minutes) {
  if (before === undefined || minutes < 0.03) return null;
  // Milliseconds are whole numbers, so the division is one of whole numbers too.
  const milliseconds = BigInt(Math.max(1, Math.round(minutes * 60_000)));
  return String(((BigInt(now) - BigInt(before)) * 60_000n) / milliseconds);
}

function drawPart(parent, object, rates) {
  const entries = Object.entries(object).filter(([, value]) => value !== null);
  const groups = [["", [...rates, ...entries.filter(([, value]) => typeof value !== "object")]]];
  for (const [name, value] of entries) {
    if (name === "refused" && typeof value === "object") groups[0][1].push(["refused", refused(value)]);
    else if (name === "winners") groups.push([name, value.map(({ state, count }) => [state, count])]);
    else if (typeof value === "object") groups.push([name, Array.isArray(value) ? value : Object.entries(value)]);
  }
  keep(parent, groups.filter(([, content]) => content.length > 0), ([name]) => name, ([name]) => {
    const content = el("div");
    const node = el("div", {}, name ? el("h4", { textContent: word(name) }) : null, content);
    return { node, update: ([, value]) => (Array.isArray(value[0]) ? facts(content, value) : table(content, value)) };
  });
}

/** The sum, and the reasons that occurred. */
function refused(reasons) {
  const sum = Object.values(reasons).reduce((all, count) => all + count, 0);
  const named = Object.entries(reasons).filter(([, count]) => count > 0);
  const text = named.map(([reason, count]) => `${reason.replaceAll("_", " ")} ${count}`).join(", ");
  return text ? `${format.whole(sum)} (${text})` : "0";
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
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const numeric = (key) => rows.every((row) => /^-?\d*$/.test(String(row[key] ?? "")));
  const cell = (tag, key, text) => el(tag, { textContent: text, className: numeric(key) ? "number" : "mono" });
  const head = el("tr", {}, columns.map((key) => cell("th", key, word(key))));
  const body = rows.map((row) => el("tr", {}, columns.map((key) => cell("td", key, figure(key, row[key] ?? "")))));
  const drawn = el("table", { className: "figures" }, el("thead", {}, head), el("tbody", {}, body));
  parent.replaceChildren(el("div", { className: "scroll" }, drawn));
}

function figure(key, value) {
  const text = String(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (key.endsWith("_us")) return format.milliseconds(Number(value) / 1000);
  if (!/^-?\d+$/.test(text)) return text;
  const plain = key.replace(/_per_minute$/, "");
  return format.whole(text) + (WEI.has(plain) || plain.endsWith("_wei") ? " wei" : "");
}

function word(key) {
  const plain = key.replace(/_per_minute$/, "");
  const text = (WORDS[plain] ?? plain.replace(/_wei$/, "").replaceAll("_", " ")) + (plain === key ? "" : " per minute");
  return text.charAt(0).toUpperCase() + text.slice(1);
}
