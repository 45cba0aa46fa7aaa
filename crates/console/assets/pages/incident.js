// One incident: when what happened, to scale; what each observer saw; the workflow's steps; replay, and what to send on.

import { get, path } from "../api.js";
import * as live from "../live.js";
import { download, facts, h, head, incidentText, s, show, span, when } from "../ui.js";
import { outcomeTag, stepList } from "./switchover.js";

/** A replay takes this long, milliseconds, however long the incident took. */
const REPLAY_MS = 6_000;

/** @type {import("../app.js").Open} */
export async function open(main, [id]) {
  let incident = await get(path("incidents", id));
  const body = h("div");
  main.append(body);
  /** How far a replay is, 0 to 1; null: none. @type {number | null} */
  let replayed = null;
  let frame = 0;

  function replay() {
    const begun = performance.now();
    const round = () => {
      replayed = Math.min(1, (performance.now() - begun) / REPLAY_MS);
      if (replayed === 1) replayed = null;
      else frame = requestAnimationFrame(round);
      draw();
    };
    cancelAnimationFrame(frame);
    round();
  }

  function draw() {
    const last = Math.max(incident.ended ?? 0, ...incident.steps.map((step) => step.at), incident.begun + 1);
    const until = replayed === null ? last : incident.begun + (last - incident.begun) * replayed;
    const shown = { ...incident, steps: incident.steps.filter((step) => step.at <= until) };
    show(body, head(`Incident ${incident.id}: ${incidentText(incident)}`, outcomeTag(incident.outcome), h("span", { class: "grow" }),
      h("div", { class: "actions" },
        h("button", { type: "button", onclick: replay }, "Replay"),
        h("button", { type: "button", onclick: () => download(`incident-${incident.id}.json`, JSON.stringify(incident, null, 2), "application/json") }, "JSON"),
        h("a", { href: `/api/v1/incidents/${incident.id}/report?form=html`, target: "_blank" }, "Report on one page"))),
    h("section", { class: "card", "aria-label": "In short" }, facts([
      ["Pair", h("a", { href: `#/pair/${encodeURIComponent(incident.pair)}` }, incident.pair)],
      ["Begun", when(incident.begun, true)], ["Took", incident.ended ? span(incident.ended - incident.begun) : "not yet ended"],
      ["Role", `${incident.from ?? "nobody"} to ${incident.to}, epoch ${incident.epoch}`],
      ["Why", incident.reason], ["Ordered by", incident.ordered_by],
    ])),
    h("section", { class: "card", "aria-label": "Phases" }, h("h2", null, "Phases, to scale"), timeline(shown, last)),
    h("section", { class: "card" }, h("h2", null, "Steps"), stepList(shown)),
    h("section", { class: "card" }, h("h2", null, "Evidence"), incident.evidence.length === 0 ? h("p", { class: "dim" }, "None was told.")
      : h("ul", null, incident.evidence.map((line) => h("li", null, typeof line === "string" ? line : JSON.stringify(line))))));
  }

  draw();
  const off = live.on("incident", (fresh) => {
    if (fresh.id !== incident.id) return;
    incident = fresh;
    draw();
  });
  return () => {
    off();
    cancelAnimationFrame(frame);
  };
}

/** Each phase from its first step to its last, on one scale. */
function timeline(incident, last) {
  /** @type {Map<string, {from: number, to: number}>} */
  const phases = new Map();
  for (const { phase, at } of incident.steps) {
    const known = phases.get(phase);
    phases.set(phase, known ? { from: Math.min(known.from, at), to: Math.max(known.to, at) } : { from: at, to: at });
  }
  const begun = Math.min(incident.begun, ...incident.steps.map((step) => step.at));
  const narrow = document.documentElement.clientWidth < 700;
  const [width, names, row] = narrow ? [340, 120, 22] : [860, 150, 22];
  const room = width - names - (narrow ? 62 : 80);
  const x = (at) => names + ((at - begun) / Math.max(1, last - begun)) * room;
  const rows = [...phases].sort(([, a], [, b]) => a.from - b.from);
  const height = rows.length * row + 24;
  return s("svg", { class: "drawing", viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": rows.map(([phase, { from }]) => `${phase} after ${span(from - begun)}`).join(", ") },
  [0, 0.25, 0.5, 0.75, 1].map((part) => [
    s("line", { class: "grid", x1: names + part * room, x2: names + part * room, y1: 0, y2: height - 20 }),
    (!narrow || part === 0 || part === 1 || part === 0.5) && s("text", { class: "small", x: names + part * room, y: height - 5, "text-anchor": "middle" },
      span(Math.round((last - begun) * part)))]),
  rows.map(([phase, { from, to }], i) => [
    s("text", { class: "small", x: 0, y: i * row + 15 }, phase),
    s("rect", { class: "bar", x: x(from), y: i * row + 5, width: Math.max(3, x(to) - x(from)), height: 12, rx: 2 }),
    s("text", { class: "small", x: Math.max(x(from) + 3, x(to)) + 5, y: i * row + 15 }, `+${span(from - begun)}`)]));
}
