// What is so now: the status, kept fresh by the API's events. Says when it is no longer fresh, and recovers by itself.
// Pages are told of changes; they never ask in a loop.

import { get, Problem } from "./api.js";

/** Fetched at least this often, milliseconds: figures have an age, which shall be small. */
const EVERY_MS = 5_000;
/** A change is shown at once, and what follows it together: no sooner than this after the last time, milliseconds, and not so often that
 * fetching takes more than half the time. */
const GATHER_MS = 60;
/** Without news for this long what is shown counts as stale, milliseconds. */
const STALE_MS = 12_000;
const RECONNECT_MS = 1_500;

/** The newest status; null: none yet. @type {any} */
export let status = null;
/** Whether the SCS answers. */
export let connected = false;

let receivedAt = 0;
/** @type {EventSource | null} */
let source = null;
let gathering = false;
/** When the status was fetched and shown last, and how long that took, milliseconds. */
let [refreshedAt, tookMs] = [0, 0];
let fetching = false;
let again = false;
let timer = 0;
/** The newest event that came; with it a new stream goes on behind it. */
let lastEvent = "";
/** @type {Record<string, Set<(data: any) => void>>} */
const listeners = { status: new Set(), incident: new Set(), log: new Set(), connection: new Set() };

/** Told from now on, until the function that is returned is called.
 * @param {"status" | "incident" | "log" | "connection"} what @param {(data: any) => void} listener */
export function on(what, listener) {
  listeners[what].add(listener);
  return () => listeners[what].delete(listener);
}

/** The time at the SCS, microseconds since the Unix epoch, counted on from its newest answer. */
export const now = () => (status ? status.at + Math.round((performance.now() - receivedAt) * 1000) : Date.now() * 1000);

/** How old the status is, milliseconds. */
export const ageMs = () => (status ? performance.now() - receivedAt : Infinity);

/** Whether what is shown may no longer be so. */
export const isStale = () => !connected || ageMs() > STALE_MS;

/** Whether it has begun and not ended. */
export const runs = () => source !== null;

/** Begins; resolves with the first status. */
export async function begin() {
  end();
  open();
  timer = setInterval(refresh, EVERY_MS);
  await refresh();
}

export function end() {
  clearInterval(timer);
  source?.close();
  source = null;
  status = null;
  connected = false;
  lastEvent = "";
}

/** Fetches the status; once more, soon, when asked meanwhile. */
export async function refresh() {
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  const begun = performance.now();
  try {
    const answer = await get("/status");
    receivedAt = performance.now();
    status = answer;
    setConnected(true);
    tell("status", status);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status !== 401) setConnected(false);
  } finally {
    fetching = false;
    refreshedAt = performance.now();
    tookMs = refreshedAt - begun;
  }
  if (again) {
    again = false;
    gather();
  }
}

function open() {
  const mine = new EventSource(`/api/v1/events${lastEvent === "" ? "" : `?last-event-id=${encodeURIComponent(lastEvent)}`}`);
  source = mine;
  // What changed before the stream began is in no event. A status that was asked for just now is shown first.
  mine.addEventListener("open", gather);
  const heard = (kind, then) => mine.addEventListener(kind, (event) => {
    lastEvent = event.lastEventId;
    then(event);
  });
  heard("view", gather);
  heard("lost", gather);
  heard("incident", (event) => tell("incident", JSON.parse(event.data)));
  heard("log", (event) => tell("log", JSON.parse(event.data)));
  mine.addEventListener("error", () => {
    setConnected(false);
    // The browser tries again by itself only after some errors, and waits longer than an operator would.
    mine.close();
    if (source !== mine) return;
    setTimeout(() => source === mine && open(), RECONNECT_MS);
  });
}

function gather() {
  if (gathering) return;
  gathering = true;
  setTimeout(() => {
    gathering = false;
    refresh();
  }, Math.max(0, refreshedAt + Math.max(GATHER_MS, tookMs) - performance.now()));
}

function setConnected(is) {
  if (connected === is) return;
  connected = is;
  tell("connection", is);
}

function tell(what, data) {
  for (const listener of [...listeners[what]]) listener(data);
}
