// Who ordered what, from where and why, and what came of it; refused attempts too. Newest first.

import { get, query } from "../api.js";
import { h, head, problemBox, show, table, when } from "../ui.js";

const PAGE = 200;

/** @type {import("../app.js").Open} */
export async function open(main) {
  const list = h("div");
  main.append(head("Audit"), list);
  let rows = [];
  await load();

  async function load(before) {
    try {
      const page = await get(`/audit${query({ before, limit: PAGE })}`);
      rows = [...rows, ...page.records];
      show(list, table("Audit", ["Number", "When", "Who", "From", "What", "Reason", "Result"],
        rows.map((r) => [r.number, when(r.at), r.who, r.from, r.what, r.reason, r.result]), "Nothing was ordered."),
      page.records.length === PAGE && h("button", { type: "button", onclick: () => load(rows.at(-1).number) }, "Older ones"));
    } catch (problem) {
      show(list, problemBox(problem));
    }
  }
}
