// Solutions: ordered sets of applications, started and stopped as one, with a reason.

import { may, path, post } from "../api.js";
import { statusTag } from "../drawing.js";
import * as live from "../live.js";
import { age, ask, h, head, label, show, table } from "../ui.js";

/** @type {import("../app.js").Open} */
export function open(main) {
  const list = h("div", { class: "live" });
  main.append(head("Solutions"), list);

  function draw() {
    const all = live.status?.solutions ?? [];
    show(list, all.length === 0
      ? h("p", null, "No solutions are configured. A solution is an ordered set of applications that are started and stopped as one: ",
        h("code", null, "[solutions.NAME]"), " in the ", h("a", { href: "#/configuration" }, "configuration"), ".")
      : all.map(one));
  }

  const off = live.on("status", draw);
  draw();
  return off;
}

function one(solution) {
  return h("section", { class: "card", "aria-label": `Solution ${solution.name}` },
    h("h2", null, solution.name, " ", statusTag(solution.status)),
    h("p", null, "since ", age(solution.since), solution.reason && h("span", { class: solution.status === "pending" ? "bad-text" : "dim" }, `: ${solution.reason}`)),
    solution.order && h("p", { class: "warn-text" }, underWay(solution.order), ", since ", age(solution.order.since)),
    table(`Applications of ${solution.name}, in the order in which they are started`, ["", "Application", "Host", "Pair", "Status", "Mode"],
      solution.applications.map((part, i) => [i + 1, part.app, part.host,
        part.pair && h("a", { href: `#/pair/${encodeURIComponent(part.pair)}` }, part.pair), statusTag(part.status), part.mode])),
    may("operator") && h("p", null, orders(solution)));
}

function underWay(order) {
  const graceful = typeof order.what === "object" && order.what.stop.graceful;
  const doing = order.what === "start" ? "Being started" : graceful ? "Being stopped gracefully" : "Being stopped";
  return `${doing} by ${order.by}, waits for ${order.at ?? "the whole"}`;
}

function orders(solution) {
  const button = (verb, text) => h("button", { type: "button", onclick: () => order(solution, verb, text) }, verb,
    h("span", { class: "unseen" }, ` ${solution.name}`));
  const names = solution.applications.map((part) => part.app);
  return [
    solution.status !== "started" && button("Start", `One after the other, each waited for: ${names.join(", ")}.`), " ",
    solution.status !== "stopped" && button("Stop", `One after the other: ${[...names].reverse().join(", ")}. Nothing is restarted, nothing fails over: callers of these servers are cut off.`),
  ];
}

function order(solution, verb, text) {
  const stops = verb === "Stop";
  const graceful = h("input", { type: "checkbox", checked: true });
  return ask({ title: `${verb} ${solution.name}`, text, verb, fields: () => stops && label("Let each finish what is in hand", graceful, "row"),
    act: (reason) => post(path("solutions", solution.name, verb.toLowerCase()), stops ? { reason, graceful: graceful.checked } : { reason }) });
}
