// Applications with what they say of themselves; starting, stopping and restarting them, with a reason.

import { may, path, post } from "../api.js";
import { statusTag } from "../drawing.js";
import * as live from "../live.js";
import { age, ask, h, head, label, show, table } from "../ui.js";

/** @type {import("../app.js").Open} */
export function open(main) {
  const list = h("div", { class: "live" });
  const find = h("input", { type: "search" });
  find.oninput = () => draw();
  main.append(head("Applications"), h("div", { class: "form" }, label("Find", find)), list);

  function draw() {
    const shown = (live.status?.applications ?? []).filter((app) => `${app.name} ${app.host} ${app.pair ?? ""}`.includes(find.value.trim()));
    show(list, table("Applications", ["Application", "Host", "Pair", "Status", "Since", "Mode", "Process", "What it says", ""], shown.map((app) => [
      app.name, app.host, app.pair && h("a", { href: `#/pair/${encodeURIComponent(app.pair)}` }, app.pair), statusTag(app.status), age(app.since), app.mode,
      app.pid && [app.pid, app.restarts > 0 && h("span", { class: "dim" }, `, ${app.restarts} restarts`)],
      [app.text, app.stop_ordered && h("p", { class: "warn-text" }, "stopped by an operator")], may("operator") && orders(app),
    ])));
  }

  const off = live.on("status", draw);
  draw();
  return off;
}

function orders(app) {
  const button = (verb, text, graceful) => h("button", { type: "button", onclick: () => order(app, verb, text, graceful) }, verb,
    h("span", { class: "unseen" }, ` ${app.name}`));
  if (app.status === "stopped" || app.status === "unknown") return button("Start", "Its agent starts it.", false);
  return [button("Stop", app.mode === "primary" ? "It is primary: the other member takes over, if it can." : "It does not take over while it is stopped.", true), " ",
    button("Restart", "It is stopped and started again.", true)];
}

function order(app, verb, text, takesGraceful) {
  const graceful = h("input", { type: "checkbox", checked: true });
  return ask({ title: `${verb} ${app.name}`, text, verb, fields: () => takesGraceful && label("Let it finish what is in hand", graceful, "row"),
    act: (reason) => post(path("applications", app.name, verb.toLowerCase()), takesGraceful ? { reason, graceful: graceful.checked } : { reason }) });
}
