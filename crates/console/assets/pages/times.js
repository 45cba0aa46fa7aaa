// How long takeovers took: percentiles per pair and kind, beside what the profile promises at the worst, as the SCS works
// them out from the incidents that are kept.

import { get } from "../api.js";
import { h, head, kindText, show, span, table, tag } from "../ui.js";

/** @type {import("../app.js").Open} */
export async function open(main) {
  const list = h("div");
  main.append(head("Takeover times"), h("p", { class: "dim" },
    "From what set a takeover off, or the earliest that it may have, until the new primary had its VIPs; " +
    "confirmed when the network was asked and only the new holder answered."), list);
  const { times } = await get("/takeover-times");
  const rows = times.map(({ pair, kind, service, confirmed, promise_us: promise, kept }) => [
    h("a", { href: `#/pair/${encodeURIComponent(pair)}` }, pair), kindText(kind), service.count,
    span(service.median_us), span(service.p90_us), span(service.p99_us), span(service.worst_us), span(confirmed.median_us),
    promise == null ? "" : span(promise), kept == null ? "" : kept ? tag("kept", "good") : tag("exceeded", "warn")]);
  show(list, table("Takeover times", ["Pair", "Kind", "How many", "Median", "90 %", "99 %", "Longest", "Confirmed, median",
    "Promise, host cut off", ""], rows, "No takeover is kept yet."));
}
