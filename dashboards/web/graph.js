// The graph of a stream as cards with fields, from ComfyUI's prompt and /object_info. Changes are
// sent as a whole prompt and take effect at one frame, or are refused with node and input named.

import { el, setText, svg } from "./dom.js";
import { RefusedGraph } from "./millstream.js";

/** Pause after the last movement of a field before a change is sent by itself. */
const SETTLE_MS = 160;

/** Widest span of whole numbers that gets a slider. */
const SLIDER_SPAN_MAX = 1000;

/** An editor in two elements: one for the graph, one for its buttons. */
export class GraphEditor {
  #area;
  #actions;
  #classes;
  #parameters = null;
  #running = null;
  #draft = null;
  #fields = new Map();
  #cards = new Map();
  #timer = 0;
  #sending = false;
  #again = false;

  /**
   * @param {HTMLElement} area
   * @param {HTMLElement} actions
   * @param {() => Promise<object>} classes gives `/object_info`
   */
  constructor(area, actions, classes) {
    this.#area = area;
    this.#actions = actions;
    this.#classes = classes;
    this.message = el("p", { className: "note graph-message", hidden: true, attributes: { role: "status" } });
    this.live = el("input", { type: "checkbox", id: "graph-live", checked: true });
    this.apply = el("button", { type: "button", className: "primary", textContent: "Apply", onclick: () => this.#send() });
    this.revert = el("button", { type: "button", textContent: "Undo changes", onclick: () => this.#reset() });
    this.wires = svg("svg", { class: "graph-wires", "aria-hidden": "true" });
    this.inner = el("div", { className: "graph-inner" });
    this.json = el("textarea", { spellcheck: false, aria: { label: "Graph as JSON" } });
    const useJson = el("button", { type: "button", textContent: "Apply this JSON", onclick: () => this.#sendJson() });
    this.jsonBox = el("details", { className: "graph-json" }, el("summary", { textContent: "As JSON: add, remove and rewire nodes" }), this.json, useJson);
    const graphArea = el("div", { className: "graph-area" }, this.inner);
    area.replaceChildren(this.message, graphArea, this.jsonBox);
    actions.replaceChildren(el("label", {}, this.live, " apply while moving"), this.revert, this.apply);
    new ResizeObserver(() => this.#wire()).observe(this.inner);
  }

  /** Shows another stream's graph. @param {import("./millstream.js").Parameters|null} parameters */
  open(parameters) {
    this.#parameters = parameters;
    this.#running = null;
    this.#draft = null;
    this.#say("", "");
  }

  /** The graph in force, as the node tells it each second; fields being changed are left alone. */
  async show(prompt) {
    const text = JSON.stringify(prompt);
    if (!prompt || text === this.#running || this.#sending) return;
    const edited = this.#draft && JSON.stringify(this.#draft) !== this.#running;
    const first = this.#running === null;
    this.#running = text;
    if (edited && !first) return this.#marks();
    this.#draft = structuredClone(prompt);
    await this.#draw();
  }

  async #draw() {
    const classes = await this.#classes();
    this.#fields.clear();
    this.#cards.clear();
    const columns = byDepth(this.#draft).map((ids) =>
      el("div", { className: "graph-column" }, ids.map((id) => this.#card(id, classes))),
    );
    this.inner.replaceChildren(this.wires, ...columns);
    this.json.value = JSON.stringify(this.#draft, null, 2);
    this.#wire();
    this.#marks();
  }

  #card(id, classes) {
    const node = this.#draft[id];
    const about = classes[node.class_type];
    const title = node._meta?.title ?? about?.display_name ?? node.class_type;
    const rows = inputsOf(node, about).map(([name, config]) => this.#input(id, name, config));
    const fault = el("p", { className: "fault", hidden: true });
    const head = el("div", { className: "node-head" }, el("h3", { textContent: title }), el("span", { className: "mono", textContent: title === node.class_type ? `#${id}` : `${node.class_type} #${id}` }));
    const card = el("section", { className: "node", title: about?.description ?? "", aria: { label: `${title}, node ${id}` } }, head, el("div", { className: "node-body" }, rows, fault));
    this.#cards.set(id, { card, fault });
    return card;
  }

  #input(id, name, config) {
    const value = this.#draft[id].inputs[name];
    if (Array.isArray(value)) {
      const source = this.#draft[value[0]];
      const text = source?._meta?.title ?? source?.class_type ?? value[0];
      return el("div", { className: "link" }, el("code", { textContent: name }), "←", el("b", { textContent: text }));
    }
    const fault = el("p", { className: "fault", hidden: true, id: `fault-${id}-${name}` });
    const change = (now) => {
      this.#draft[id].inputs[name] = now;
      this.#marks();
      clearTimeout(this.#timer);
      if (this.live.checked) this.#timer = setTimeout(() => this.#send(), SETTLE_MS);
    };
    const { control, main } = field(config, value, change);
    main.id = `input-${id}-${name}`;
    main.setAttribute("aria-describedby", fault.id);
    const label = el("label", { htmlFor: main.id, textContent: name, title: config?.[1]?.tooltip ?? "" });
    const row = el("div", { className: "input" }, label, control, fault);
    this.#fields.set(`${id} ${name}`, { row, fault, id, name });
    return row;
  }

  /** Lines between cards, behind them; not on narrow screens. */
  #wire() {
    const origin = this.inner.getBoundingClientRect();
    const paths = [];
    for (const [id, node] of Object.entries(this.#draft ?? {})) {
      const end = this.#cards.get(id)?.card.getBoundingClientRect();
      for (const value of Object.values(node.inputs ?? {})) {
        const start = Array.isArray(value) && this.#cards.get(String(value[0]))?.card.getBoundingClientRect();
        if (!start || !end) continue;
        const [x1, y1] = [start.right - origin.left, start.top + 20 - origin.top];
        const [x2, y2] = [end.left - origin.left, end.top + 20 - origin.top];
        const bend = Math.max(24, (x2 - x1) / 2);
        paths.push(svg("path", { d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` }));
      }
    }
    this.wires.replaceChildren(...paths);
  }

  /** Which fields differ from the graph in force. */
  #marks() {
    const running = this.#running ? JSON.parse(this.#running) : {};
    let changed = false;
    for (const { row, id, name } of this.#fields.values()) {
      const differs = JSON.stringify(running[id]?.inputs?.[name]) !== JSON.stringify(this.#draft[id]?.inputs?.[name]);
      row.classList.toggle("changed", differs);
      changed ||= differs;
    }
    this.apply.disabled = !changed || !this.#parameters;
    this.revert.disabled = !changed;
  }

  #reset() {
    if (!this.#running) return;
    this.#draft = JSON.parse(this.#running);
    this.#say("", "");
    this.#draw();
  }

  #sendJson() {
    try {
      this.#draft = JSON.parse(this.json.value);
    } catch (error) {
      this.#say("bad", `This is no JSON: ${error.message}`);
      return;
    }
    this.#send(true);
  }

  async #send(redraw = false) {
    clearTimeout(this.#timer);
    if (this.#sending) {
      this.#again = true;
      return;
    }
    const parameters = this.#parameters;
    const draft = structuredClone(this.#draft);
    this.#sending = true;
    try {
      const { pts } = await parameters.set(draft);
      if (parameters !== this.#parameters) return;
      this.#running = JSON.stringify(draft);
      this.#faults([]);
      if (pts === null) this.#say("warn", "Sent. No frame has shown it yet.");
      else this.#say("", `In effect since the frame with PTS ${pts} (${(pts / 90_000).toFixed(3)} s).`);
      if (redraw) await this.#draw();
      else this.json.value = JSON.stringify(this.#draft, null, 2);
      this.#marks();
    } catch (error) {
      if (parameters !== this.#parameters) return;
      const faults = error instanceof RefusedGraph ? error.faults : [];
      const named = this.#faults(faults);
      const unnamed = faults.filter((fault) => !named.includes(fault));
      const rest = unnamed.map(({ node, input, message }) => ` Node ${node}${input ? `, ${input}` : ""}: ${message}.`);
      this.#say("bad", `Refused, the old graph runs on: ${error.message}.${rest.join("")}`.replace("..", "."));
    } finally {
      this.#sending = false;
      if (this.#again) {
        this.#again = false;
        this.#send();
      }
    }
  }

  /** Puts each fault at its field, or at its card. Returns those that found a place. */
  #faults(faults) {
    const places = [...this.#fields.values(), ...this.#cards.values()];
    for (const { fault } of places) fault.hidden = true;
    for (const { card } of this.#cards.values()) card.classList.remove("faulty");
    return faults.filter(({ node, input, message }) => {
      const card = this.#cards.get(node);
      card?.card.classList.add("faulty");
      const place = this.#fields.get(`${node} ${input}`) ?? card;
      if (!place) return false;
      const text = place === card && input ? `${input}: ${message}` : message;
      setText(place.fault, text);
      place.fault.hidden = false;
      return true;
    });
  }

  #say(kind, text) {
    this.message.className = `note graph-message ${kind}`;
    this.message.hidden = !text;
    setText(this.message, text);
  }
}

/** Node ids in columns: each node right of all that it takes from. */
function byDepth(prompt) {
  const depths = new Map();
  const depth = (id, seen) => {
    if (depths.has(id)) return depths.get(id);
    if (seen.has(id) || !prompt[id]) return 0;
    const from = Object.values(prompt[id].inputs ?? {}).filter(Array.isArray);
    const found = Math.max(0, ...from.map(([source]) => depth(String(source), new Set([...seen, id])) + 1));
    depths.set(id, found);
    return found;
  };
  const columns = [];
  for (const id of Object.keys(prompt)) (columns[depth(id, new Set())] ??= []).push(id);
  return columns.filter(Boolean);
}

/** Inputs in the class's order, then those that it does not know. */
function inputsOf(node, about) {
  const known = { ...about?.input?.required, ...about?.input?.optional };
  const given = Object.keys(node.inputs ?? {});
  const order = [...Object.keys(known).filter((name) => given.includes(name)), ...given.filter((name) => !(name in known))];
  return order.map((name) => [name, known[name]]);
}

/** A control for an input by its description; text without one is guessed from the value. */
function field(config, value, change) {
  const kind = Array.isArray(config?.[0]) ? "COMBO" : (config?.[0] ?? guess(value));
  const about = config?.[1] ?? {};
  const alone = (main) => ({ control: main, main });
  switch (kind) {
    case "COMBO": {
      const options = Array.isArray(config?.[0]) ? config[0] : (about.options ?? [value]);
      const shown = options.includes(value) ? options : [value, ...options];
      const main = el("select", { onchange: () => change(shown[main.selectedIndex]) }, shown.map((option) => el("option", { textContent: String(option), selected: option === value })));
      return alone(main);
    }
    case "BOOLEAN": {
      const main = el("input", { type: "checkbox", checked: Boolean(value), onchange: () => change(main.checked) });
      return alone(main);
    }
    case "INT":
      if (about.display === "color") {
        const main = el("input", { type: "color", value: `#${Number(value).toString(16).padStart(6, "0")}`, oninput: () => change(parseInt(main.value.slice(1), 16)) });
        return alone(main);
      }
      return number(about, value, true, change);
    case "FLOAT":
      return number(about, value, false, change);
    default: {
      const main = el(about.multiline ? "textarea" : "input", { value: String(value), spellcheck: false, oninput: () => change(main.value) });
      return alone(main);
    }
  }
}

function number({ min, max, step }, value, whole, change) {
  const limits = { min: min ?? "", max: max ?? "", step: step ?? (whole ? 1 : "any") };
  const read = (text) => {
    const now = whole ? parseInt(text, 10) : parseFloat(text);
    if (Number.isFinite(now)) change(now);
    return now;
  };
  const box = el("input", { type: "number", ...limits, value: String(value), inputMode: whole ? "numeric" : "decimal" });
  const span = max - min;
  const slides = Number.isFinite(span) && (whole ? span <= SLIDER_SPAN_MAX : span <= 100);
  if (!slides) {
    box.addEventListener("input", () => read(box.value));
    return { control: box, main: box };
  }
  const slider = el("input", { type: "range", ...limits, aria: { hidden: "true" }, tabIndex: -1 });
  slider.value = String(value);
  slider.addEventListener("input", () => {
    box.value = slider.value;
    read(slider.value);
  });
  box.addEventListener("input", () => {
    slider.value = box.value;
    read(box.value);
  });
  return { control: el("div", { className: "pair" }, slider, box), main: box };
}

function guess(value) {
  if (typeof value === "boolean") return "BOOLEAN";
  if (typeof value === "number") return "FLOAT";
  return "STRING";
}
