// One pair: drawn large, what holds and why, what may be ordered, and when who was primary.

import { get, may, path, post } from "../api.js";
import { copyText, leaseText, pairDrawing, verdict } from "../drawing.js";
import * as live from "../live.js";
import { age, ask, facts, h, head, incidentText, label, problemBox, s, show, span, table, tag, time, when } from "../ui.js";
import { switchOver } from "./switchover.js";

/** @type {import("../app.js").Open} */
export function open(main, [name]) {
  const title = h("div");
  const body = h("div");
  const steps = h("div");
  const ifs = h("section", { class: "card" });
  const strip = h("section", { class: "card" });
  main.append(title, body, steps, ifs, strip);

  function draw() {
    const pair = live.status?.pairs.find((pair) => pair.name === name);
    if (!pair) return show(body, problemBox(`There is no pair ${name}.`));
    const hosts = new Map(live.status.hosts.map((host) => [host.name, host]));
    show(title, head(`Pair ${name}`, verdict(pair), h("span", { class: "grow" }), actions(pair)));
    show(body, h("section", { class: `card ${pair.trouble.length > 0 ? "bad" : ""}`, "aria-label": "State" },
      pair.trouble.map((trouble) => h("p", { class: "bad-text" }, `! ${trouble}`)),
      pairDrawing(pair, hosts),
      h("div", { class: "live" }, facts([
        ["Why", pair.reason], ["Next", pair.next], ["Drills", drillsText(pair.drills)],
        ["Lease", pair.lease && [leaseText(pair.lease), ", ", pair.lease.told && age(pair.lease.told, 15)]],
        ["Guarantee", pair.lease?.guarantee],
        ["Kind", `${pair.redundancy} standby, profile ${pair.profile}, failback ${pair.failback}, epoch ${pair.epoch}`],
        ...pair.members.filter((m) => m.standby).map((m) => [`Calls of ${m.app}`, [copyText(m), " ", age(m.standby.told, 15)]]),
        ...pair.vips.map((vip) => [vip.address, seen(vip)]),
      ]))));
  }

  const off = [live.on("status", draw), live.on("incident", (incident) => {
    if (incident.pair !== name) return;
    showModes(name, strip);
    if (incident.ended) showConsequences(name, ifs);
  })];
  draw();
  showConsequences(name, ifs);
  showModes(name, strip);
  return () => off.forEach((stop) => stop());

  function actions(pair) {
    if (!may("operator")) return null;
    const acknowledge = () => ask({ title: `Acknowledge ${name}`, text: "Automatic failover of this pair is on again.", verb: "Acknowledge",
      act: (reason) => post(path("pairs", name, "acknowledge"), { reason }) });
    const maintain = () => {
      const hours = h("input", { type: "number", min: "0.1", max: "168", step: "0.1", value: "2", required: true });
      return ask({ title: `Maintenance of ${name}`, verb: "Begin", fields: () => [label("Hours", hours)],
        text: "Failback by itself and the count of failovers are held, and alarms are marked as expected, until it ends by itself. A primary that fails is replaced all the same.",
        act: (reason) => post(path("pairs", name, "maintenance"), { lasts_s: Math.round(Number(hours.value) * 3600), reason }) });
    };
    const endMaintenance = () => ask({ title: `End the maintenance of ${name}`, text: "Everything is as it was before.", verb: "End it",
      act: (reason) => post(path("pairs", name, "maintenance", "end"), { reason }) });
    const freeze = () => ask({ title: `Freeze ${name}`, verb: "Freeze",
      text: "Nobody takes over when its primary fails, and nothing goes back by itself, until somebody unfreezes it. A planned switchover stays possible. Agents that reach no SCS know nothing of it.",
      act: (reason) => post(path("pairs", name, "freeze"), { reason }) });
    const unfreeze = () => ask({ title: `Unfreeze ${name}`, text: "Automatic failover of this pair is on again.", verb: "Unfreeze",
      act: (reason) => post(path("pairs", name, "unfreeze"), { reason }) });
    return h("div", { class: "actions" },
      h("button", { type: "button", class: "main", onclick: () => switchOver(name, steps) }, "Switch over"),
      pair.maintenance
        ? h("button", { type: "button", onclick: endMaintenance }, "End maintenance")
        : h("button", { type: "button", onclick: maintain }, "Maintenance"),
      pair.freeze
        ? h("button", { type: "button", onclick: unfreeze }, "Unfreeze")
        : h("button", { type: "button", onclick: freeze }, "Freeze"),
      pair.frozen && !pair.freeze && h("button", { type: "button", onclick: acknowledge }, "Acknowledge"),
      pair.shows_calls && h("a", { href: `#/calls/${encodeURIComponent(name)}` }, "Calls"));
  }
}

/** When a drill is run next, and what came of the last one; nothing where there are none. */
function drillsText(drills) {
  const next = drills.filter((drill) => drill.at !== null).sort((a, b) => a.at - b.at)[0];
  const last = drills.filter((drill) => drill.last !== null).sort((a, b) => b.last.at - a.last.at)[0];
  if (!next && !last) return null;
  return [next && [`drill ${next.number} at `, when(next.at)], next && last && "; ",
    last && [`last drill ${last.number} at `, when(last.last.at), ` ${last.last.result}: ${last.last.text}`]];
}

function seen(vip) {
  const newest = [...vip.sightings].sort((a, b) => b.at - a.at)[0];
  if (!newest) return "the network was not asked who has it";
  const holders = newest.holders.map((holder) => holder.host ?? holder.mac).join(" and ") || "nobody";
  return [`${holders} answered when ${newest.observer ?? "the SCS"} asked `, age(newest.at)];
}

/** What would happen if something failed now, as the decision itself says. */
async function showConsequences(name, where) {
  try {
    const { at, consequences } = await get(path("pairs", name, "consequences"));
    const away = (c) => (c.away_us === null ? tag("not served again by itself", "bad")
      : c.away_us === 0 ? tag("nothing to wait for", "good") : `at most ${span(c.away_us)}`);
    show(where, h("h2", null, "If something failed now"),
      table("If something failed now", ["If", "Then", "Without service"], consequences.map((c) => [c.title, c.text, away(c)]), "The pair has no primary."),
      h("p", { class: "dim" }, "Worked out by the decision itself, on a copy of what is so: ", age(at), ". ",
        h("button", { type: "button", onclick: () => showConsequences(name, where) }, "Again")));
  } catch (problem) {
    show(where, h("h2", null, "If something failed now"), problemBox(problem));
  }
}

/** Who was primary when, from the incidents that are kept. */
async function showModes(name, where) {
  try {
    const { incidents } = await get(`/incidents?limit=100&pair=${encodeURIComponent(name)}`);
    const changes = incidents.filter((i) => i.outcome.outcome === "completed").sort((a, b) => a.begun - b.begun);
    show(where, h("h2", null, "Who was primary"), changes.length === 0 ? h("p", { class: "dim" }, "No role change is kept.") : [
      modeStrip(changes),
      table("Role changes", ["Incident", "When", "What", "New primary"], [...changes].reverse().slice(0, 10).map((i) =>
        [h("a", { href: `#/incident/${i.id}` }, i.id), when(i.begun), incidentText(i), i.to])),
    ]);
  } catch (problem) {
    show(where, problemBox(problem));
  }
}

function modeStrip(changes) {
  const [from, until] = [changes[0].begun, Math.max(live.now(), changes.at(-1).begun + 1)];
  const first = changes[0].to;
  const x = (at) => ((at - from) / (until - from)) * 800;
  return [s("svg", { class: "drawing", viewBox: "0 0 800 28", role: "img", preserveAspectRatio: "none",
    "aria-label": `${changes.length} changes of the primary since ${time(from)}; the table below has the newest` },
    changes.map((change, i) => s("rect", { class: `bar ${change.to === first ? "" : "other"}`, x: x(change.begun), y: 4, height: 20,
      width: Math.max(1, x(changes[i + 1]?.begun ?? until) - x(change.begun) - 1) },
      s("title", null, `${change.to} since ${time(change.begun)}`)))),
  h("p", { class: "dim" }, `${time(from)} until now. Coloured: ${first}; grey: the other.`)];
}
