// A pair as a drawing: its two hosts with their servers and VIPs, the SCS, and what joins them. Also in words, for those
// who do not see it. Decides nothing.

import { h, s, span, tag } from "./ui.js";

/** What a mode is called, and how it looks. @param {any} member */
export function modeTag(member) {
  const text = member.mode ?? "no mode";
  const said = member.current ? text : `${text}, when last heard of`;
  return tag(said, !member.current ? "" : member.mode === "primary" ? "accent" : "");
}

/** @param {string} status */
export const statusTag = (status) => tag(status, status === "started" || status === "up" ? "good"
  : status === "initializing" || status === "start-pending" || status === "unknown" || status === "suspending" ? "warn" : "bad");

/** The VIPs of a pair on one host: "192.0.2.100 enabled on eth0". @param {any} pair @param {string} host */
export function vipsOn(pair, host) {
  return pair.vips.map((vip) => {
    const place = vip.places.find((at) => at.host === host);
    if (!place) return { address: vip.address, text: "not here", enabled: false };
    const text = place.enabled === null ? "not known" : place.enabled ? `enabled on ${place.interface}` : "not enabled";
    return { address: vip.address, text, enabled: place.enabled };
  });
}

/** How much of the lease was left when its holder told last, microseconds; null: nobody holds it. It is renewed all the time.
 * @param {any} lease */
const leaseLeft = (lease) => (lease?.holder && lease.told ? lease.left_us : null);

/** The lease in words. @param {any} lease */
export function leaseText(lease) {
  const left = leaseLeft(lease);
  if (left === null) return "nobody is heard to hold it";
  return `${lease.holder}, ${span(left)} of ${span(lease.lasts_us)} left, backed by ${lease.backing} of 2`;
}

/** How far a copy is behind, in words; empty where there is none. @param {any} member */
export function copyText(member) {
  const copy = member.standby;
  if (!copy) return "";
  const lag = copy.lag_ms === null ? "not connected with the other" : `${copy.lag_ms} ms behind`;
  return `${copy.confirmed} calls, ${copy.ringing} ringing, ${copy.registered} registered` + (member.mode === "primary" ? "" : `; ${lag}`);
}

/** How bad it is: 0 all is well, 1 something is under way, 2 trouble. @param {any} pair */
export const severity = (pair) => (pair.trouble.length > 0 ? 2 : pair.incident !== null || pair.frozen ? 1 : 0);

/** @param {any} pair */
export function verdict(pair) {
  if (pair.trouble.length > 0) return tag("trouble", "bad");
  if (pair.incident !== null) return tag(`incident ${pair.incident} under way`, "warn");
  return pair.frozen ? tag("frozen", "warn") : tag("ok", "good");
}

/** The two hosts side by side, as boxes. @param {any} pair @param {Map<string, any>} hosts */
export function hostBoxes(pair, hosts) {
  return h("div", { class: "hosts live" }, pair.members.map((member) => {
    const host = hosts.get(member.host);
    const kind = !member.current ? "gone" : member.mode === "primary" ? "primary" : "";
    return h("div", { class: `host ${kind}`, "data-key": member.app },
      h("p", null, h("b", null, member.host), " ", statusTag(host?.status ?? "unknown")),
      h("p", null, member.app, " ", statusTag(member.status), " ", modeTag(member)),
      vipsOn(pair, member.host).map((vip) => h("p", { class: vip.enabled ? "" : "dim" }, vip.enabled ? "● " : "○ ", `${vip.address} ${vip.text}`)),
      copyText(member) && h("p", { class: "dim" }, copyText(member)),
      member.not_ready && member.mode !== "primary" && h("p", { class: "bad-text" }, `Cannot take over: ${member.not_ready}`));
  }));
}

/** The pair large. @param {any} pair @param {Map<string, any>} hosts */
export function pairDrawing(pair, hosts) {
  const narrow = document.documentElement.clientWidth < 700;
  const vips = pair.vips.length;
  const [width, boxWidth, boxHeight] = narrow ? [340, 340, 112 + vips * 20] : [860, 330, 112 + vips * 20];
  const places = narrow ? [[0, 96], [0, 96 + boxHeight + 70]] : [[0, 110], [width - boxWidth, 110]];
  const height = places[1][1] + boxHeight + 4;
  const words = pair.members.map((m) => `${m.app} on ${m.host} is ${m.status}, mode ${m.mode ?? "none"}`).join("; ");
  return s("svg", { class: "drawing live", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Pair ${pair.name}: ${words}` },
    joins(pair, hosts, narrow, places, boxWidth, boxHeight, width),
    scsBox(pair, width), pair.members.map((member, i) => hostBox(pair, member, hosts.get(member.host), places[i], boxWidth, boxHeight)));
}

function scsBox(pair, width) {
  const middle = width / 2;
  return s("g", null,
    s("rect", { class: "box", x: middle - 150, y: 2, width: 300, height: 56, rx: 6 }),
    s("text", { class: "strong", x: middle, y: 24, "text-anchor": "middle" }, "SCS"),
    s("text", { class: "small", x: middle, y: 44, "text-anchor": "middle" },
      `wants ${pair.wanted_primary ?? "nobody"} as primary, epoch ${pair.epoch}`));
}

function joins(pair, hosts, narrow, places, boxWidth, boxHeight, width) {
  const up = pair.members.map((member) => hosts.get(member.host)?.status === "up");
  const backup = pair.members.find((member) => member.app !== pair.primary && member.standby);
  const lag = backup?.standby.lag_ms;
  const text = backup ? (lag === null ? "copy: not connected" : `copy: ${lag} ms behind`) : "";
  const wire = (d, ok) => s("path", { class: ok ? "wire" : "wire down", d });
  if (narrow) {
    const between = places[0][1] + boxHeight;
    return [wire(`M170 58 V${places[0][1]}`, up[0]), wire(`M330 58 V${places[1][1]}`, up[1]), wire(`M120 ${between} V${places[1][1]}`, up[0] && up[1]),
      s("text", { class: "small", x: 128, y: between + 40 }, text || "the agents vote over this link")];
  }
  const middle = places[0][1] + boxHeight / 2;
  return [wire(`M${width / 2 - 90} 58 L${boxWidth / 2} 110`, up[0]), wire(`M${width / 2 + 90} 58 L${width - boxWidth / 2} 110`, up[1]),
    wire(`M${boxWidth} ${middle} H${width - boxWidth}`, up[0] && up[1]),
    s("text", { class: "small", x: width / 2, y: middle - 8, "text-anchor": "middle" }, text || "votes, both ways")];
}

function hostBox(pair, member, host, [x, y], width, height) {
  const kind = !member.current ? "gone" : member.mode === "primary" ? "primary" : "";
  const line = (row, kind, text) => s("text", { class: kind, x: x + 14, y: y + row }, text);
  const holds = pair.lease?.holder === member.host;
  const left = holds ? leaseLeft(pair.lease) : null;
  return s("g", null,
    s("rect", { class: `box ${kind}`, x: x + 2, y, width: width - 4, height, rx: 6 }),
    line(24, "strong", member.host), s("text", { class: host?.status === "up" ? "good" : "bad", x: x + width - 14, y: y + 24, "text-anchor": "end" }, host?.status ?? "unknown"),
    line(48, member.status === "started" ? "" : "bad", `${member.app}: ${member.status}`),
    s("text", { class: member.mode === "primary" ? "strong" : "", x: x + width - 14, y: y + 48, "text-anchor": "end" },
      (member.mode ?? "no mode") + (member.current ? "" : " (last known)")),
    vipsOn(pair, member.host).map((vip, i) => line(70 + i * 20, vip.enabled ? "" : "small", `${vip.enabled ? "●" : "○"} ${vip.address} ${vip.text}`)),
    left !== null ? [line(82 + pair.vips.length * 20, "small", `lease: ${span(left)} of ${span(pair.lease.lasts_us)} left`),
      s("rect", { class: "grid", x: x + 14, y: y + 92 + pair.vips.length * 20, width: width - 28, height: 6, fill: "none" }),
      s("rect", { class: "bar", x: x + 14, y: y + 92 + pair.vips.length * 20, height: 6,
        width: Math.max(0, Math.min(1, left / Math.max(1, pair.lease.lasts_us))) * (width - 28) })]
      : line(82 + pair.vips.length * 20, "small", "no lease here"));
}
