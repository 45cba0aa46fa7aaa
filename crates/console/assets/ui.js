// What pages are built from: elements from data as text nodes, changes that leave focus and scroll alone, times with their
// ages, dialogs. Knows nothing of what is shown.

import { now } from "./live.js";

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Node | string | number | null | undefined | false | Child[]} Child */

/** An element. `class` and attributes by name, handlers as `onclick`, `value` and the like as properties.
 * @param {string} tag @param {Record<string, any> | null} [props] @param {...Child} children @returns {HTMLElement} */
export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);

/** The same in a drawing. @param {string} tag @param {Record<string, any> | null} [props] @param {...Child} children */
export const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) {
      element[name] = value;
      (element.handlers ??= []).push(name);
    } else if (name === "value" || name === "checked" || name === "selected") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(element, child);
    else if (child !== null && child !== undefined && child !== false && child !== "") {
      element.append(child instanceof Node ? child : String(child));
    }
  }
}

/** Makes the children of `container` what `children` are, keeping what is the same: focus, scroll and the reader's place
 * stay. What the user types is left alone. @param {Element} container @param {...Child} children */
export function show(container, ...children) {
  const fresh = document.createDocumentFragment();
  append(fresh, children);
  morphChildren(container, fresh);
}

/** An element that is only built where it is not there yet, or what it shows has changed: for tables of hundreds of rows.
 * @param {string} key names it among its neighbours @param {string} shows stands for all that it shows @param {() => Element} build */
export function lazy(tag, key, shows, build) {
  return Object.assign(h(tag, { "data-key": key, "data-lazy": true }), { shows, build });
}

/** The same with everything built. @param {any} node */
function built(node) {
  if (node.build) return Object.assign(node.build(), { shows: node.shows });
  if (node.nodeType === Node.ELEMENT_NODE) for (const part of node.querySelectorAll("[data-lazy]")) part.replaceWith(built(part));
  return node;
}

function morphChildren(old, fresh) {
  let at = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    if (at && alike(at, wanted)) {
      const following = at.nextSibling;
      morph(at, wanted);
      at = following;
    } else if (at) {
      const following = at.nextSibling;
      old.replaceChild(built(wanted), at);
      at = following;
    } else old.append(built(wanted));
  }
  while (at) {
    const following = at.nextSibling;
    at.remove();
    at = following;
  }
}

const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);

function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (fresh.build) {
    if (old.shows === fresh.shows) return;
    fresh = built(fresh);
  }
  if (old.shows !== fresh.shows) old.shows = fresh.shows;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const name of new Set([...(old.handlers ?? []), ...(fresh.handlers ?? [])])) old[name] = fresh[name];
  old.handlers = fresh.handlers;
  if (old.nodeName === "TEXTAREA" || old.nodeName === "SELECT") return;
  morphChildren(old, fresh);
}

/** Says something to screen readers. @param {string} text */
export const say = (text) => { document.getElementById("said").textContent = text; };

/** A tag: a word with a colour. @param {string} text @param {"good" | "warn" | "bad" | "accent" | ""} [kind] */
export const tag = (text, kind = "") => h("span", { class: `tag ${kind}` }, text);

/** A problem as a box. @param {Error | string} problem */
export const problemBox = (problem) => h("div", { class: "problem", role: "alert" }, problem.message ?? problem);

/** The head of a page. @param {string} title @param {...Child} more */
export const head = (title, ...more) => h("div", { class: "head" }, h("h1", null, title), more);

/** Names with what belongs to them; what is null is left out. @param {[string, Child][]} rows */
export const facts = (rows) =>
  h("dl", { class: "facts" }, rows.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => [h("dt", null, name), h("dd", null, value)]));

/** A table; `rows` are cells, or row elements. @param {string} caption @param {Child[]} names @param {(Child[] | Element)[]} rows
 * @param {string} [empty] said where there are none */
export function table(caption, names, rows, empty = "Nothing.") {
  if (rows.length === 0) return h("p", { class: "dim" }, empty);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, h("table", null,
    h("caption", { class: "unseen" }, caption),
    h("thead", null, h("tr", null, names.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", null, rows.map((row) => (Array.isArray(row) ? h("tr", null, row.map((cell) => h("td", null, cell))) : row)))));
}

/** A label with what it labels. @param {string} text @param {Element} control @param {string} [kind] */
export const label = (text, control, kind = "") => h("label", { class: kind }, h("span", null, text), control);

/** A choice. @param {Record<string, any>} props @param {[string, string][]} options value and text @param {string} chosen */
export function select(props, options, chosen) {
  return h("select", props, options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
}

const two = (number) => String(number).padStart(2, "0");

const KINDS = {
  manual: "manual switchover", failure: "primary server failure", disconnected: "primary server disconnected",
  reconnected: "reconnection of a disconnected primary", "first-primary": "first primary",
};

/** What an incident's kind is called. @param {string} kind */
export const kindText = (kind) => KINDS[kind] ?? kind;

/** The same of an incident, with the drill that it was. @param {any} incident */
export const incidentText = (incident) => kindText(incident.kind) + (incident.drill ? ` (drill ${incident.drill})` : "");

/** A time of the API (microseconds) as date and time of this place. @param {number} us @param {boolean} [fine] with milliseconds */
export function time(us, fine = false) {
  const d = new Date(us / 1000);
  const clock = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  const text = `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${clock}`;
  return fine ? `${text}.${String(d.getMilliseconds()).padStart(3, "0")}` : text;
}

/** A time as an element. @param {number} us @param {boolean} [fine] */
export const when = (us, fine = false) => h("time", { datetime: new Date(us / 1000).toISOString() }, time(us, fine));

/** A length of time, microseconds. @param {number} us */
export function span(us) {
  if (us < 1_000) return `${us} µs`;
  if (us < 1_000_000) return `${(us / 1000).toFixed(us < 100_000 ? 1 : 0)} ms`;
  const seconds = us / 1_000_000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

function ago(us) {
  const seconds = Math.floor(Math.max(0, now() - us) / 1e6);
  return seconds < 60 ? `${seconds} s ago` : `${span(seconds * 1e6)} ago`;
}

/** How long ago, kept up to date; marked as old beyond a limit. @param {number} us @param {number} [limitS] seconds */
export function age(us, limitS) {
  const element = h("time", { "data-age": us, "data-limit": limitS, title: time(us, true), datetime: new Date(us / 1000).toISOString() });
  tickOne(element);
  return element;
}

/** Brings the ages on the page up to date. */
export const tick = () => document.querySelectorAll("[data-age]").forEach(tickOne);

function tickOne(element) {
  const us = Number(element.dataset.age);
  const old = element.dataset.limit !== undefined && now() - us > Number(element.dataset.limit) * 1e6;
  const text = ago(us) + (old ? " (old)" : "");
  if (element.textContent !== text) element.textContent = text;
  element.classList.toggle("old", old);
}

/** A dialog. `build` gets a function that closes it, and gives what is in it. Resolves when it is closed.
 * @param {string} title @param {(close: () => void, body: HTMLElement) => void} build */
export function dialog(title, build) {
  return new Promise((resolve) => {
    const body = h("div");
    const element = h("dialog", { "aria-label": title }, h("h2", null, title), body);
    element.onclose = () => {
      element.remove();
      resolve(undefined);
    };
    document.body.append(element);
    build(() => element.close(), body);
    element.showModal();
  });
}

/** Asks for a reason, and carries out: the dialog stays open with the problem where it was refused.
 * @param {{title: string, text: Child, verb: string, fields?: (form: HTMLElement) => Child, act: (reason: string, form: any) => Promise<any>}} order */
export function ask({ title, text, verb, fields, act }) {
  let result = null;
  return dialog(title, (close, body) => {
    const problem = h("div");
    const reason = h("input", { name: "reason", maxlength: "500", required: true, autocomplete: "off" });
    const go = h("button", { class: "main", type: "submit" }, verb);
    const form = h("form", null, h("p", null, text),
      h("div", { class: "form" }, fields?.(body), label("Reason, for the record", reason, "wide")), problem,
      h("div", { class: "actions" }, go, h("button", { type: "button", onclick: close }, "Leave it")));
    form.onsubmit = async (event) => {
      event.preventDefault();
      go.disabled = true;
      try {
        result = await act(reason.value, form);
        say(result?.text ?? `${title}: done`);
        close();
      } catch (error) {
        show(problem, problemBox(error));
        go.disabled = false;
      }
    };
    show(body, form);
  }).then(() => result);
}

/** Offers text as a file. @param {string} name @param {string} text @param {string} type */
export function download(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = h("a", { href: url, download: name });
  link.click();
  URL.revokeObjectURL(url);
}
