// The log: newest last, going on by itself; what is filtered for is in the address, which can be sent to somebody.

import { get, query } from "../api.js";
import * as live from "../live.js";
import { h, head, label, problemBox, select, show, tag, time } from "../ui.js";

const LIMIT = 300;
/** Rows kept on the page; older ones are a filter by time away. */
const MOST_ROWS = 1_000;
const LEVELS = ["alarm", "standard", "interaction", "trace"];
const FIELDS = ["level", "host", "app", "id", "text", "since", "until"];

/** @type {import("../app.js").Open} */
export async function open(main, _parts, params) {
  /** @type {Record<string, string>} */
  const filter = Object.fromEntries(FIELDS.map((name) => [name, params.get(name) ?? ""]));
  let rows = [];
  let end = 0;
  let following = filter.until === "";
  let asking = false;
  let more = false;
  const names = (list) => [["", "any"], ...(list ?? []).map((entry) => [entry.name, entry.name])];
  const controls = {
    level: select({}, [["", "any"], ...LEVELS.map((level) => [level, `${level} and above`])], filter.level),
    host: select({}, names(live.status?.hosts), filter.host),
    app: select({}, names(live.status?.applications), filter.app),
    id: h("input", { value: filter.id, placeholder: "00-05150", size: "9" }),
    text: h("input", { type: "search", value: filter.text }),
    since: h("input", { type: "datetime-local", step: "1", value: forInput(filter.since) }),
    until: h("input", { type: "datetime-local", step: "1", value: forInput(filter.until) }),
  };
  const list = h("div");
  const follow = h("input", { type: "checkbox", checked: following });
  follow.onchange = () => { following = follow.checked; if (following) tail(); };
  const form = h("form", { class: "form" }, label("Level", controls.level), label("Host", controls.host), label("Application", controls.app),
    label("Id", controls.id), label("Text", controls.text), label("From", controls.since), label("Until", controls.until),
    h("button", { type: "submit" }, "Filter"), label("Go on live", follow, "row"));
  form.onsubmit = (event) => {
    event.preventDefault();
    for (const name of FIELDS) filter[name] = name === "since" || name === "until" ? fromInput(controls[name].value) : controls[name].value.trim();
    history.replaceState(null, "", `#/log${query(filter)}`);
    load();
  };
  main.append(head("Log"), form, list);

  async function load() {
    try {
      const page = await get(`/log${query({ ...filter, limit: LIMIT })}`);
      [rows, end] = [page.events, page.end];
      draw();
    } catch (problem) {
      show(list, problemBox(problem));
    }
  }

  /** Asks for what came in behind what is shown: the store's filter decides what that is, as for the page. */
  async function tail() {
    if (asking) {
      more = true;
      return;
    }
    asking = true;
    try {
      const page = await get(`/log${query({ ...filter, after: end, limit: LIMIT })}`);
      end = page.end;
      rows = [...rows, ...page.events].slice(-MOST_ROWS);
      if (page.events.length > 0) draw();
    } catch {
      // The banner says that the SCS is lost; what is new will be asked for with the next event.
    } finally {
      asking = false;
    }
    if (more) {
      more = false;
      await tail();
    }
  }

  function draw() {
    show(list, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Log" }, h("table", null,
      h("caption", { class: "unseen" }, "Log events, newest first"),
      h("thead", null, h("tr", null, ["When", "Level", "Id", "About", "What"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", null, [...rows].reverse().map((row) => h("tr", { "data-key": row.seq, class: row.level === "alarm" ? "raised" : "" },
        h("td", { class: "when mono" }, time(row.at, true)), h("td", null, tag(row.level, row.level === "alarm" ? "bad" : "")),
        h("td", { class: "mono" }, row.id), h("td", null, [row.app, row.host].filter(Boolean).join(" on ")),
        h("td", null, row.text)))))), rows.length === 0 && h("p", { class: "dim" }, "Nothing is like that."));
  }

  // An event may be told before it is in the store; the writer is some milliseconds behind.
  let timer = 0;
  const off = live.on("log", () => {
    if (!following) return;
    clearTimeout(timer);
    timer = setTimeout(tail, 100);
  });
  await load();
  return () => {
    off();
    clearTimeout(timer);
  };
}

const forInput = (us) => (us === "" ? "" : time(Number(us)).replace(" ", "T"));
const fromInput = (text) => (text === "" ? "" : String(new Date(text).getTime() * 1000));
