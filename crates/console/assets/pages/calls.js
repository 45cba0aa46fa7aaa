// The calls that a pair's primary has in hand, and one call's messages as a ladder.

import { get, path, query } from "../api.js";
import * as live from "../live.js";
import { dialog, h, head, label, problemBox, select, show, span, table } from "../ui.js";

/** @type {import("../app.js").Open} */
export async function open(main, [name]) {
  const able = (live.status?.pairs ?? []).filter((pair) => pair.shows_calls).map((pair) => pair.name);
  let pair = name || able[0] || "";
  let rows = [];
  const list = h("div");
  const choice = select({}, able.map((each) => [each, each]), pair);
  choice.onchange = () => { location.hash = `#/calls/${encodeURIComponent(choice.value)}`; };
  main.append(head("Calls"), able.length > 0 && h("div", { class: "form" }, label("Pair", choice),
    h("button", { type: "button", onclick: () => load() }, "Look again")), list);
  if (!pair) return show(list, h("p", { class: "dim" }, "No pair shows its calls: its SIP Servers need `http-port`."));
  await load();

  async function load(after) {
    try {
      const page = await get(`${path("pairs", pair, "calls")}${query({ after, limit: 100 })}`);
      rows = after ? [...rows, ...page.calls] : page.calls;
      show(list, h("p", { class: "dim" }, `As ${page.app ?? "nobody"} told at ${new Date().toLocaleTimeString()}.`),
        table("Calls", ["Caller", "Called", "Answered by", "Stage", "Since", "Call-ID", ""], rows.map((call) => [call.caller, call.called, call.answered_by, call.stage,
          span(call.age_ms * 1000), h("span", { class: "mono" }, call.call_id), h("button", { type: "button", onclick: () => trace(pair, call) }, "Messages")]), "No call is in hand."),
        page.next && h("button", { type: "button", onclick: () => load(page.next) }, "More"));
    } catch (problem) {
      show(list, problemBox(problem));
    }
  }
}

const trace = (pair, call) => dialog(`Call ${call.call_id}`, async (close, body) => {
  try {
    const { app, ladder } = await get(path("pairs", pair, "calls", call.call, "trace"));
    show(body, h("p", { class: "dim" }, `As ${app} has it.`), h("pre", { tabindex: "0" }, ladder));
  } catch (problem) {
    show(body, problemBox(problem));
  }
  body.append(h("div", { class: "actions" }, h("button", { type: "button", onclick: close }, "Close")));
});
