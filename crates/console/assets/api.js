// Requests to the API: one function per kind, and errors as the API words them. Knows who asks: by a login, by the
// certificate or by the socket; shows nothing.

const PREFIX = "/api/v1";
const RANKS = ["viewer", "operator", "administrator"];
/** How long an answer may take, milliseconds: longer than the API itself allows. */
const LIMIT_MS = 35_000;

/** @typedef {{user: string, role: string, csrf?: string}} Session */

/** @type {Session | null} */
let session = null;
/** Whether a session ended that nobody had logged out of. */
let ended = false;
/** @type {() => void} */
let whenLoggedOut = () => {};

/** An answer that is not a result (RFC 9457). */
export class Problem extends Error {
  /** @param {number} status HTTP status, 0 where there was no answer. @param {any} body */
  constructor(status, body) {
    super(body?.detail || body?.title || `the answer was ${status}`);
    this.status = status;
    this.body = body ?? {};
  }
}

/** Who it is, as the SCS knows. @returns {Session | null} */
export const who = () => session;

/** Whether the login page is shown because a session ended by itself, or by an administrator. */
export const hasEnded = () => ended;

/** Whether that one has at least this role. @param {string} role */
export const may = (role) => session !== null && RANKS.indexOf(session.role) >= RANKS.indexOf(role);

/** A path below the API from parts, each escaped. @param {...(string | number)} parts */
export const path = (...parts) => "/" + parts.map((part) => encodeURIComponent(part)).join("/");

/** A query from what is set. @param {Record<string, unknown>} values */
export function query(values) {
  const set = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return set.length === 0 ? "" : "?" + new URLSearchParams(set.map(([name, value]) => [name, String(value)]));
}

/** @param {string} where */
export const get = (where) => request("GET", where);

/** An order. @param {string} where @param {object} body */
export const post = (where, body) => request("POST", where, JSON.stringify(body));

/** Orders a switchover. The plan's hash has 64 bits, more than a number has here, so it goes out as it came in: as text.
 * @param {string} pair @param {{to: string, reason: string, force: boolean}} order @param {string} hash */
export function switchOver(pair, order, hash) {
  const body = JSON.stringify(order);
  return request("POST", path("pairs", pair, "switchover"), `${body.slice(0, -1)},"plan":${hash}}`);
}

/** What is removed. @param {string} where */
export const remove = (where) => request("DELETE", where);

/** Asks the SCS who it is; null: somebody who has to log in. */
export async function whoAmI() {
  try {
    session = await get("/session");
  } catch (problem) {
    if (!(problem instanceof Problem) || problem.status !== 401) throw problem;
    session = null;
  }
  return session;
}

/** @param {string} user @param {string} password */
export async function logIn(user, password) {
  session = await post("/session", { user, password });
  ended = false;
}

export async function logOut() {
  await remove("/session");
  session = null;
  whenLoggedOut();
}

/** Whether there is a login that can be ended: those who are known by a certificate or the socket have none. */
export const hasLogin = () => session?.csrf !== undefined;

/** Called when the session has ended, by whom ever. @param {() => void} call */
export const onLoggedOut = (call) => { whenLoggedOut = call; };

async function request(method, where, body) {
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && session?.csrf) headers["X-CSRF-Token"] = session.csrf;
  let answer, text;
  try {
    answer = await fetch(PREFIX + where, { method, headers, body, cache: "no-store", signal: AbortSignal.timeout(LIMIT_MS) });
    text = await answer.text();
  } catch {
    throw new Problem(0, { detail: "the SCS does not answer; whether an order was carried out, its log will tell" });
  }
  const content = parsed(text);
  if (answer.ok) return content;
  if (answer.status === 401 && session !== null) {
    session = null;
    ended = true;
    whenLoggedOut();
  }
  throw new Problem(answer.status, content);
}

/** JSON with the hash of plans kept as text; null: it is none. @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text.replace(/"hash":(\d+)/g, '"hash":"$1"'));
  } catch {
    return null;
  }
}
