// How long takeovers took, from the incidents that are kept: percentiles per pair and kind, beside what the profile promises
// at the worst.

import { get, query } from "../api.js";
import * as live from "../live.js";
import { h, head, kindText, show, span, table, tag } from "../ui.js";

const PAGE = 1_000;
/** Most incidents looked at: enough for percentiles, and bounded. */
const MOST = 5_000;

/** @type {import("../app.js").Open} */
export async function open(main) {
  const list = h("div");
  main.append(head("Takeover times"), h("p", { class: "dim" },
    "From what set a role change off until the network was asked and only the new holder answered."), list);
  /** @type {any[]} */
  const incidents = [];
  for (let before; incidents.length < MOST;) {
    const page = (await get(`/incidents${query({ before, open: false, limit: PAGE })}`)).incidents;
    incidents.push(...page);
    if (page.length < PAGE) break;
    before = Math.min(...page.map((incident) => incident.id));
  }
  draw();

  function draw() {
    /** @type {Map<string, {pair: string, kind: string, times: number[]}>} */
    const groups = new Map();
    for (const { pair, kind, begun, ended, outcome } of incidents) {
      if (outcome.outcome !== "completed" || kind === "first-primary" || !ended) continue;
      const key = `${pair} ${kind}`;
      if (!groups.has(key)) groups.set(key, { pair, kind, times: [] });
      groups.get(key).times.push(ended - begun);
    }
    const worst = new Map((live.status?.pairs ?? []).map((pair) => [pair.name, pair.lease?.host_cut_us]));
    const rows = [...groups.values()].sort((a, b) => a.pair.localeCompare(b.pair) || a.kind.localeCompare(b.kind)).map(({ pair, kind, times }) => {
      times.sort((a, b) => a - b);
      const promise = worst.get(pair);
      return [h("a", { href: `#/pair/${encodeURIComponent(pair)}` }, pair), kindText(kind), times.length, ...[0.5, 0.9, 0.99, 1].map((part) => span(rank(times, part))),
        promise ? span(promise) : "", promise ? (times.at(-1) <= promise ? tag("kept", "good") : tag("exceeded", "warn")) : ""];
    });
    show(list, table("Takeover times", ["Pair", "Kind", "How many", "Median", "90 %", "99 %", "Longest", "Worst, host cut off", ""], rows, "No takeover is kept yet."));
  }
}

/** The value that `part` of all are not above (nearest rank). @param {number[]} sorted @param {number} part */
const rank = (sorted, part) => sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)];
