// The incidents that are kept, newest first; new ones appear by themselves.

import { get, query } from "../api.js";
import * as live from "../live.js";
import { h, head, incidentText, label, problemBox, select, show, span, table, when } from "../ui.js";
import { outcomeTag } from "./switchover.js";

const PAGE = 100;

/** @type {import("../app.js").Open} */
export async function open(main, _parts, params) {
  let pair = params.get("pair") ?? "";
  /** @type {Map<number, any>} */
  let known = new Map();
  const list = h("div");
  const choice = select({}, [["", "all"], ...(live.status?.pairs ?? []).map((p) => [p.name, p.name])], pair);
  choice.onchange = () => {
    pair = choice.value;
    history.replaceState(null, "", `#/incidents${query({ pair })}`);
    known = new Map();
    load();
  };
  main.append(head("Incidents"), h("div", { class: "form" }, label("Pair", choice)), list);

  async function load(before) {
    try {
      const { incidents } = await get(`/incidents${query({ pair, before, limit: PAGE })}`);
      incidents.forEach((incident) => known.set(incident.id, incident));
      draw(incidents.length === PAGE);
    } catch (problem) {
      show(list, problemBox(problem));
    }
  }

  function draw(isMore) {
    const all = [...known.values()].sort((a, b) => b.id - a.id);
    show(list, table("Incidents", ["Number", "Begun", "Pair", "What", "From, to", "Took", "Outcome"], all.map((incident) => [
      h("a", { href: `#/incident/${incident.id}` }, incident.id), when(incident.begun), incident.pair, incidentText(incident),
      `${incident.from ?? "nobody"}, ${incident.to}`, incident.ended ? span(incident.ended - incident.begun) : "", outcomeTag(incident.outcome),
    ]), "There was no incident."),
    isMore && h("button", { type: "button", onclick: () => load(all.at(-1).id) }, "Older ones"));
  }

  const off = live.on("incident", (incident) => {
    if (pair && incident.pair !== pair) return;
    known.set(incident.id, incident);
    draw(false);
  });
  await load();
  return off;
}
