// Alarms: the active ones, kept up to date; on demand those that have ended. Clearing asks for a reason.

import { get, may, path, post } from "../api.js";
import * as live from "../live.js";
import { age, ask, h, head, label, problemBox, show, table, tag, when } from "../ui.js";

const LIMIT = 500;
const ENDINGS = { cancelled: "by its cancel event", "timed-out": "timed out", unconfigured: "no longer configured" };

/** @type {import("../app.js").Open} */
export async function open(main, _parts, params) {
  const active = h("section", { class: "live", "aria-live": "polite" });
  const past = h("section");
  const history = h("input", { type: "checkbox", checked: params.get("history") === "1" });
  history.onchange = () => loadPast();
  main.append(head("Alarms"), active, h("div", { class: "form" }, label("Also those that have ended", history, "row")), past);

  function draw() {
    const alarms = live.status?.alarms ?? [];
    show(active, table("Active alarms", ["Number", "Category", "About", "What", "Raised", ""], alarms.map((alarm) => [
      alarm.number, tag(alarm.category, alarm.category === "minor" ? "warn" : "bad"), about(alarm.source), text(alarm), age(alarm.raised_at),
      may("operator") && h("button", { type: "button", onclick: () => clear(alarm) }, "Clear", h("span", { class: "unseen" }, ` alarm ${alarm.number}`)),
    ]), "No alarm is active."));
  }

  async function loadPast() {
    if (!history.checked) return show(past);
    try {
      const { alarms } = await get(`/alarms?history=true&limit=${LIMIT}`);
      show(past, table("Alarms that have ended", ["Number", "Category", "About", "What", "Raised", "Ended", "How"],
        alarms.filter((alarm) => alarm.ended_at).reverse().map((alarm) => [alarm.number, alarm.category, about(alarm.source), text(alarm),
          when(alarm.raised_at), when(alarm.ended_at), ending(alarm.ending)])));
    } catch (problem) {
      show(past, problemBox(problem));
    }
  }

  const off = live.on("status", draw);
  draw();
  await loadPast();
  return off;
}

const text = (alarm) => [alarm.text, h("span", { class: "dim" }, ` (${alarm.condition}, ${alarm.event}${alarm.repeats > 0 ? `, repeated ${alarm.repeats} times` : ""})`)];
const about = (source) => (typeof source === "string" ? source : Object.entries(source).map(([kind, name]) => `${kind} ${name}`).join());
const ending = (how) => (!how ? "" : how.how === "cleared" ? `cleared by ${how.by}: ${how.reason}` : ENDINGS[how.how] ?? how.how);

const clear = (alarm) => ask({ title: `Clear alarm ${alarm.number}`, text: `${alarm.text}. What raised it may raise it again.`, verb: "Clear it",
  act: (reason) => post(path("alarms", alarm.number, "clear"), { reason }) });
