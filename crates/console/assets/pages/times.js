// How long takeovers took: percentiles per pair and kind, beside what the profile promises at the worst, as the SCS works
// them out from the incidents that are kept; and the drills by which there are such figures before anything fails.

import { get, may, path, post, remove } from "../api.js";
import * as live from "../live.js";
import { ask, dialog, h, head, kindText, label, problemBox, say, select, show, span, table, tag, when } from "../ui.js";

const EVERY = [["", "once"], ["1", "every day"], ["7", "every week"], ["14", "every two weeks"], ["28", "every four weeks"], ["91", "every 91 days"]];
const RESULTS = { "under-way": ["under way", "warn"], passed: ["passed", "good"], failed: ["failed", "bad"], skipped: ["skipped", "warn"] };

/** @type {import("../app.js").Open} */
export async function open(main) {
  const list = h("div");
  const practised = h("div", { class: "live" });
  main.append(head("Takeover times"), h("p", { class: "dim" },
    "From what set a takeover off, or the earliest that it may have, until the new primary had its VIPs; " +
    "confirmed when the network was asked and only the new holder answered."), list,
  h("div", { class: "head" }, h("h2", null, "Drills"), h("span", { class: "grow" }),
    may("operator") && h("button", { type: "button", onclick: schedule }, "Schedule a drill")),
  h("p", { class: "dim" }, "Switchovers that are practised. One is skipped, and the reason logged, where a pre-check fails, an alarm of the pair " +
    "is active, an incident is under way, or somebody works on the pair. Its times are among those above."), practised);

  const drawDrills = () => {
    const all = (live.status?.pairs ?? []).flatMap((pair) => (pair.drills ?? []).map((drill) => ({ pair: pair.name, ...drill })));
    all.sort((a, b) => (a.at ?? Infinity) - (b.at ?? Infinity));
    show(practised, table("Drills", ["Pair", "Drill", "Next", "Again", "And back", "By", "Last time", ""], all.map((drill) => [
      h("a", { href: `#/pair/${encodeURIComponent(drill.pair)}` }, drill.pair), drill.number, drill.at === null ? "over" : when(drill.at),
      drill.every_days === null ? "once" : `every ${drill.every_days} d`, drill.back ? "yes" : "no",
      drill.by + (drill.reason ? `: ${drill.reason}` : ""), drill.last && result(drill.last),
      may("operator") && h("button", { type: "button", "aria-label": `Remove drill ${drill.number} of ${drill.pair}`, onclick: () => take(drill) }, "Remove"),
    ]), "No drill is scheduled."));
  };
  const drawTimes = async () => {
    const { times } = await get("/takeover-times");
    const rows = times.map(({ pair, kind, service, confirmed, promise_us: promise, kept }) => [
      h("a", { href: `#/pair/${encodeURIComponent(pair)}` }, pair), kindText(kind), service.count,
      span(service.median_us), span(service.p90_us), span(service.p99_us), span(service.worst_us), span(confirmed.median_us),
      promise == null ? "" : span(promise), kept == null ? "" : kept ? tag("kept", "good") : tag("exceeded", "warn")]);
    show(list, table("Takeover times", ["Pair", "Kind", "How many", "Median", "90 %", "99 %", "Longest", "Confirmed, median",
      "Promise, host cut off", ""], rows, "No takeover is kept yet."));
  };
  const off = [live.on("status", drawDrills),
    // The store is some milliseconds behind the event; without an answer the banner says so.
    live.on("incident", (incident) => incident.ended && setTimeout(() => drawTimes().catch(() => {}), 200))];
  drawDrills();
  await drawTimes();
  return () => off.forEach((stop) => stop());
}

function result(last) {
  const [word, kind] = RESULTS[last.result] ?? [last.result, ""];
  return [tag(word, kind), " ", when(last.at), `: ${last.text} `, last.incident && h("a", { href: `#/incident/${last.incident}` }, `incident ${last.incident}`)];
}

function schedule() {
  const pairs = (live.status?.pairs ?? []).map((pair) => [pair.name, pair.name]);
  const pair = select({ name: "pair" }, pairs, "");
  const at = h("input", { name: "at", type: "datetime-local", required: true });
  const every = select({ name: "every" }, EVERY, "");
  const back = h("input", { name: "back", type: "checkbox", checked: true });
  return ask({ title: "Schedule a drill", verb: "Schedule it",
    text: "At that time service moves to the other member, if all pre-checks pass and nothing else speaks against it; callers notice what they notice of a switchover.",
    fields: () => [label("Pair", pair), label("First, on this clock", at), label("Again", every), label("And back, once verified", back, "row")],
    act: (reason) => post(path("pairs", pair.value, "drills"), {
      at: new Date(at.value).getTime() * 1000, every_days: every.value === "" ? null : Number(every.value), back: back.checked, reason }) });
}

/** Removing is no order to anything that runs, so no reason is asked. */
function take(drill) {
  return dialog(`Remove drill ${drill.number} of ${drill.pair}`, (close, body) => {
    const problem = h("div");
    const go = async () => {
      try {
        say((await remove(path("pairs", drill.pair, "drills", drill.number))).text);
        close();
      } catch (error) {
        show(problem, problemBox(error));
      }
    };
    show(body, h("p", null, "It is run no more. One under way is not stopped by that."), problem,
      h("div", { class: "actions" }, h("button", { type: "button", class: "main", onclick: go }, "Remove it"),
        h("button", { type: "button", onclick: close }, "Leave it")));
  });
}
