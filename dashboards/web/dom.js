// Elements from plain values. Outside text goes in as text nodes and never as markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. `properties` are DOM properties; `data`, `aria` and `attributes` are objects;
 * functions named `on…` are listeners. Children may be nodes, texts, lists, or nothing.
 */
export function el(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same for pictures; every property is an attribute. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), { attributes }, children);
}

function fill(node, { data = {}, aria = {}, attributes = {}, ...properties }, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node[name] = value;
  }
  Object.assign(node.dataset, data);
  for (const [name, value] of Object.entries(aria)) node.setAttribute(`aria-${name}`, value);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** The element with an id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Sets a text only when it changes: selections and screen readers are left in peace. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Keeps a list of elements in step with a list of things, touching only what changed.
 *
 * @param {Element} parent whose children are the list
 * @param {T[]} things
 * @param {(thing: T) => string} keyOf
 * @param {(thing: T) => {node: Element, update: (thing: T) => void}} make
 * @template T
 */
export function keep(parent, things, keyOf, make) {
  const known = (parent.kept ??= new Map());
  const wanted = new Set(things.map(keyOf));
  for (const [key, { node }] of known) {
    if (!wanted.has(key)) {
      node.remove();
      known.delete(key);
    }
  }
  things.forEach((thing, index) => {
    const key = keyOf(thing);
    let entry = known.get(key);
    if (!entry) known.set(key, (entry = make(thing)));
    if (parent.children[index] !== entry.node) parent.insertBefore(entry.node, parent.children[index] ?? null);
    entry.update(thing);
  });
}

/** A line of text that can be copied: a word before it, the text, a button. */
export function copyLine(label, text) {
  const code = el("code", { textContent: text, tabIndex: 0 });
  const button = el("button", { type: "button", className: "copy", textContent: "Copy", aria: { label: `Copy ${label}` } });
  button.addEventListener("click", async () => {
    const done = await copy(code.textContent, code);
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    setTimeout(() => (button.textContent = "Copy"), 1600);
  });
  return el("div", { className: "copy-line" }, el("span", { className: "copy-label", textContent: label }), code, button);
}

async function copy(text, node) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // No clipboard on plain http from another machine: select it for the keyboard.
    getSelection().selectAllChildren(node);
    return document.execCommand("copy");
  }
}
