// The frame: who is logged in, the menu, the banners, and which page is shown. A page is a module with
// `open(main, parts, query)`, which gives back what is to be called when it is left.

import { hasLogin, logOut, may, onLoggedOut, who, whoAmI } from "./api.js";
import * as live from "./live.js";
import { age, h, problemBox, show, tick, when } from "./ui.js";

/** @typedef {(main: HTMLElement, parts: string[], query: URLSearchParams) => (void | (() => void) | Promise<void | (() => void)>)} Open */

/** Pages by the first part of the address: text in the menu ("" for none), the role it needs, and its module. */
const PAGES = {
  "": ["Overview", "viewer", () => import("./pages/overview.js")],
  pair: ["", "viewer", () => import("./pages/pair.js")],
  incidents: ["Incidents", "viewer", () => import("./pages/incidents.js")],
  incident: ["", "viewer", () => import("./pages/incident.js")],
  alarms: ["Alarms", "viewer", () => import("./pages/alarms.js")],
  log: ["Log", "viewer", () => import("./pages/log.js")],
  hosts: ["Hosts", "viewer", () => import("./pages/hosts.js")],
  applications: ["Applications", "viewer", () => import("./pages/applications.js")],
  solutions: ["Solutions", "viewer", () => import("./pages/solutions.js")],
  calls: ["Calls", "viewer", () => import("./pages/calls.js")],
  times: ["Takeover times", "viewer", () => import("./pages/times.js")],
  configuration: ["Configuration", "viewer", () => import("./pages/configuration.js")],
  audit: ["Audit", "operator", () => import("./pages/audit.js")],
  users: ["Users and tokens", "administrator", () => import("./pages/users.js")],
};
/** Which entry of the menu a page without its own belongs to. */
const BELONGS = { pair: "", incident: "incidents" };
const THEMES = ["auto", "light", "dark"];

const main = document.getElementById("main");
/** @type {void | (() => void)} */
let leave;
let turn = 0;

/** The page's address in its parts. */
function address() {
  const [where, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { parts: where.split("/").map(decodeURIComponent), query: new URLSearchParams(query) };
}

async function route() {
  const mine = ++turn;
  leave?.();
  leave = undefined;
  document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
  const { parts, query } = address();
  if (!who() || parts[0] === "password") return login(parts);
  // Not after a login only: whoever is logged in may have looked at somebody's link in between.
  if (!live.runs()) await live.begin();
  if (mine !== turn) return;
  const [name, role, load] = PAGES[parts[0]] ?? [];
  document.body.classList.remove("alone");
  frame(parts[0]);
  main.replaceChildren();
  if (!load) return show(main, problemBox("There is no such page."));
  if (!may(role)) return show(main, problemBox(`This page is for the role ${role}.`));
  document.title = `${name || parts[1] || "Takeover"} - ${live.status?.cluster ?? "Takeover"}`;
  try {
    const page = await load();
    if (mine !== turn) return;
    const left = await page.open(main, parts.slice(1), query);
    if (mine === turn) leave = left;
    else left?.();
  } catch (problem) {
    if (mine === turn) show(main, problemBox(problem));
  }
}

async function login(parts) {
  live.end();
  document.body.classList.add("alone");
  for (const id of ["banners", "top", "menu"]) document.getElementById(id).replaceChildren();
  document.documentElement.classList.remove("stale");
  const page = await import("./pages/login.js");
  await page.open(main, parts, route);
}

function frame(page) {
  const session = who();
  show(document.getElementById("top"),
    h("b", null, live.status?.cluster || "Takeover"), h("span", { class: "dim live" }, live.status ? ["as of ", age(live.status.at, 12)] : "no status yet"),
    h("span", { class: "grow" }),
    h("span", null, session.user, h("span", { class: "dim" }, ` (${session.role})`)),
    h("button", { type: "button", id: "theme", onclick: nextTheme }, `Colours: ${theme()}`),
    hasLogin() && h("button", { type: "button", onclick: () => logOut().catch((problem) => show(main, problemBox(problem))) }, "Log out"));
  const here = BELONGS[page] ?? page;
  show(document.getElementById("menu"), Object.entries(PAGES).filter(([, [name, role]]) => name && may(role))
    .map(([path, [name]]) => h("a", { href: `#/${path}`, "aria-current": path === here ? "page" : null }, name, counted(path))));
  banners();
}

function counted(path) {
  const alarms = live.status?.alarms.length ?? 0;
  return path === "alarms" && alarms > 0 ? ` (${alarms})` : null;
}

function banners() {
  document.documentElement.classList.toggle("stale", live.isStale());
  show(document.getElementById("banners"),
    live.isStale() && who() && h("div", { class: "banner bad", "data-key": "lost" },
      "The SCS does not answer. What is shown here is what was so when it last did. Trying again. Takeovers do not need this page, ",
      "nor the SCS."),
    (live.status?.pairs ?? []).filter((pair) => pair.freeze).map((pair) => h("div", { class: "banner bad", "data-key": `freeze ${pair.name}` },
      `${pair.name} is frozen since `, when(pair.freeze.since), `, by ${pair.freeze.by}`, pair.freeze.reason ? `: ${pair.freeze.reason}` : "",
      ". Nobody takes over when its primary fails, until it is unfrozen.")),
    (live.status?.pairs ?? []).filter((pair) => pair.maintenance).map((pair) => h("div", { class: "banner", "data-key": `maintenance ${pair.name}` },
      `${pair.name} is in maintenance until `, when(pair.maintenance.until), `, by ${pair.maintenance.by}`,
      pair.maintenance.reason ? `: ${pair.maintenance.reason}` : "", ". Failback and the flap count are held; a primary that fails is replaced all the same.")));
}

function theme() {
  return localStorage.getItem("theme") ?? THEMES[0];
}

function nextTheme() {
  localStorage.setItem("theme", THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
  applyTheme();
  frame(address().parts[0]);
}

function applyTheme() {
  if (theme() === THEMES[0]) delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme();
}

async function start() {
  applyTheme();
  addEventListener("hashchange", async () => {
    await route();
    main.focus({ preventScroll: true });
  });
  onLoggedOut(route);
  live.on("status", () => who() && frame(address().parts[0]));
  live.on("connection", () => who() && banners());
  setInterval(() => {
    tick();
    if (who()) banners();
  }, 1_000);
  // Until the SCS answers there is nothing to show; it may be starting.
  for (;;) {
    try {
      await whoAmI();
      break;
    } catch (problem) {
      show(main, problemBox(problem), h("p", null, "Trying again."));
      await new Promise((resolve) => setTimeout(resolve, 1_500));
    }
  }
  const after = sessionStorage.getItem("after-login");
  sessionStorage.removeItem("after-login");
  if (who() && after && !location.hash) history.replaceState(null, "", after);
  await route();
}

await start();
