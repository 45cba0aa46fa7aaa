// Hosts with their agents' newest figures, each with its age.

import * as live from "../live.js";
import { statusTag } from "../drawing.js";
import { age, h, head, label, show, span, table, time } from "../ui.js";

/** Figures older than this are marked, seconds; agents send them every few. */
const OLD_S = 30;

/** A certificate that ends within this is marked, microseconds. */
const SOON_US = 30 * 86_400e6;

/** @type {import("../app.js").Open} */
export function open(main) {
  const list = h("div", { class: "live" });
  const find = h("input", { type: "search" });
  find.oninput = () => draw();
  main.append(head("Hosts"), h("div", { class: "form" }, label("Find", find)), list);

  function draw() {
    const { hosts = [], figures = {}, certificates = {} } = live.status ?? {};
    const shown = hosts.filter((host) => host.name.includes(find.value.trim()))
      .sort((a, b) => Number(a.status === "up") - Number(b.status === "up") || a.name.localeCompare(b.name));
    show(list, table("Hosts", ["Host", "Status", "Since", "Agent", "Certificate", "CPU", "Memory free", "Load", "Latest stall", "Clock", "Safeguards", "Figures"],
      shown.map((host) => [host.name, statusTag(host.status), age(host.since), host.release || "not heard of", certificate(certificates[host.name]), ...cells(figures[host.name])])));
  }

  const off = live.on("status", draw);
  draw();
  return off;
}

/** Until when an agent's certificate counts; its subject for whoever asks. @param {any} known */
function certificate(known) {
  if (!known) return "not seen yet";
  const left = known.until - live.now();
  const text = left <= 0 ? "has ended" : `ends in ${span(left)}`;
  return h("span", { title: `${known.subject}, ${time(known.from)} to ${time(known.until)}`, class: left < SOON_US ? "bad-text" : null }, text);
}

function cells(f) {
  if (!f) return ["", "", "", "", "", "", "none yet"];
  const safe = [f.real_time && "real-time", f.memory_locked && "memory locked", f.watchdog_s > 0 && `watchdog ${f.watchdog_s} s`].filter(Boolean);
  return [`${Math.round(f.cpu * 100)} %`, `${gib(f.memory_available)} of ${gib(f.memory_total)}`, f.load1.toFixed(2), span(f.longest_stall_us),
    `${f.clock_ppm} ppm`, safe.join(", ") || "none", age(f.received_at, OLD_S)];
}

const gib = (bytes) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
