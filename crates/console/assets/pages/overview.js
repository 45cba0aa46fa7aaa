// Every pair at a glance: alarms on top, what is wrong first. Up to a few dozen pairs as drawings, more as lines.

import { get, query } from "../api.js";
import { copyText, hostBoxes, leaseText, severity, verdict } from "../drawing.js";
import * as live from "../live.js";
import { age, facts, h, head, incidentText, label, lazy, show, tag } from "../ui.js";

/** Most pairs drawn as boxes; more are lines. */
const MOST_DRAWN = 24;
/** Most lines shown at once, until more are asked for. */
const MOST_LINES = 200;
/** Most alarms shown here; the others are on their own page. */
const MOST_ALARMS = 5;

/** @type {import("../app.js").Open} */
export function open(main, _parts, params) {
  let words = params.get("find") ?? "";
  let wrongOnly = params.get("wrong") === "1";
  let limit = MOST_LINES;
  /** The newest incident of each pair. @type {Map<string, any>} */
  const last = new Map();
  const list = h("div");
  const top = h("div", { class: "live" });
  const find = h("input", { type: "search", value: words, placeholder: "pair, host, server, VIP" });
  find.oninput = () => { words = find.value; remember(); draw(); };
  const wrong = h("input", { type: "checkbox", checked: wrongOnly });
  wrong.onchange = () => { wrongOnly = wrong.checked; remember(); draw(); };
  const more = h("div");
  main.append(head("Overview"), top,
    h("div", { class: "form" }, label("Find", find), label("Only what needs a look", wrong, "row")), list, more);

  const remember = () => history.replaceState(null, "", `#/${query({ find: words, wrong: wrongOnly ? 1 : "" })}`);

  function draw() {
    const status = live.status;
    if (!status) return show(list, h("p", null, "No status yet."));
    const hosts = new Map(status.hosts.map((host) => [host.name, host]));
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    const pairs = status.pairs
      .filter((pair) => !wrongOnly || severity(pair) > 0)
      .filter((pair) => wanted.length === 0 || wanted.every((word) => searched(pair).includes(word)))
      .sort((a, b) => severity(b) - severity(a) || (a.name < b.name ? -1 : 1));
    show(top, summary(status), alarms(status.alarms));
    show(list, pairs.length === 0 ? h("p", { class: "dim" }, "No pair is like that.")
      : pairs.length <= MOST_DRAWN ? h("div", { class: "cards" }, pairs.map((pair) => card(pair, hosts, last.get(pair.name))))
        : lines(pairs.slice(0, limit)));
    const left = pairs.length > MOST_DRAWN ? pairs.length - limit : 0;
    show(more, left > 0 && h("button", { type: "button", onclick: () => { limit += 1_000; draw(); } }, `Show ${left} more`));
  }

  /** Draws with the next picture that the browser makes, once for all that came until then. */
  let due = false;
  function drawSoon() {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      draw();
    });
  }

  const off = [live.on("status", drawSoon), live.on("incident", (incident) => { last.set(incident.pair, incident); drawSoon(); })];
  draw();
  // Behind the first drawing: what it adds is not worth waiting for.
  get("/incidents?limit=200").then(({ incidents }) => {
    for (const incident of incidents) if ((last.get(incident.pair)?.id ?? 0) < incident.id) last.set(incident.pair, incident);
    draw();
  }).catch(() => {});
  return () => off.forEach((stop) => stop());
}

const searched = (pair) => [pair.name, ...pair.members.flatMap((m) => [m.app, m.host]), ...pair.vips.map((v) => v.address)].join(" ").toLowerCase();

function summary(status) {
  const wrong = status.pairs.filter((pair) => severity(pair) === 2).length;
  const down = status.hosts.filter((host) => host.status !== "up").length;
  return h("p", { "aria-live": "polite" },
    wrong === 0 ? tag("all pairs are well", "good") : tag(`${wrong} of ${status.pairs.length} pairs in trouble`, "bad"), " ",
    down === 0 ? tag(`${status.hosts.length} hosts up`, "good") : tag(`${down} of ${status.hosts.length} hosts not up`, "bad"), " ",
    status.alarms.length === 0 ? tag("no active alarm", "good") : h("a", { href: "#/alarms" }, tag(`${status.alarms.length} active alarms`, "bad")));
}

function alarms(active) {
  if (active.length === 0) return null;
  return h("section", { class: "card bad", "aria-label": "Active alarms" }, h("h2", null, "Active alarms"),
    active.slice(0, MOST_ALARMS).map((alarm) => h("p", null, tag(alarm.category, alarm.category === "minor" ? "warn" : "bad"), " ", alarm.text, " ",
      h("span", { class: "dim" }, age(alarm.raised_at)))),
    active.length > MOST_ALARMS && h("p", null, h("a", { href: "#/alarms" }, `and ${active.length - MOST_ALARMS} more`)));
}

function card(pair, hosts, incident) {
  const kind = ["", "warn", "bad"][severity(pair)];
  return h("section", { class: `card ${kind}`, "data-key": pair.name, "aria-label": `Pair ${pair.name}` },
    h("h2", null, h("a", { href: `#/pair/${encodeURIComponent(pair.name)}` }, pair.name), " ", verdict(pair), " ",
      h("span", { class: "dim" }, `${pair.redundancy} standby, ${pair.profile}`)),
    pair.trouble.map((trouble) => h("p", { class: "bad-text" }, `! ${trouble}`)),
    hostBoxes(pair, hosts),
    h("div", { class: "live" }, facts([
      ["Lease", pair.lease && pair.vips.length > 0 ? [leaseText(pair.lease), ", ", pair.lease.told && age(pair.lease.told, 15)] : null],
      ["Guarantee", pair.lease?.guarantee],
      ["Next", pair.next],
      ["Last incident", incident ? [h("a", { href: `#/incident/${incident.id}` }, `${incident.id}, ${incidentText(incident)}`), ", ", age(incident.begun)] : "none kept"],
    ])));
}

function lines(pairs) {
  return h("div", { class: "scroll live", tabindex: "0", role: "region", "aria-label": "Pairs" }, h("table", null,
    h("thead", null, h("tr", null, ["Pair", "State", "Primary", "Backup", "Copy", "What is wrong, or next"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", null, pairs.map((pair) => {
      const primary = pair.members.find((m) => m.app === pair.primary);
      const other = pair.members.find((m) => m.app !== pair.primary);
      const place = (m) => (m ? `${m.app} on ${m.host}` : "nobody");
      const texts = [place(primary), place(other) + (other ? ` (${other.status})` : ""), other ? copyText(other) : "", pair.trouble.join("; ") || pair.next];
      return lazy("tr", pair.name, JSON.stringify([texts, severity(pair), pair.incident, pair.frozen]), () => h("tr", { "data-key": pair.name },
        h("td", null, h("a", { href: `#/pair/${encodeURIComponent(pair.name)}` }, pair.name)), h("td", null, verdict(pair)),
        texts.map((text) => h("td", null, text))));
    }))));
}
