// Users and tokens, for administrators: making, changing role, disabling, removing. What is secret is shown once.

import { get, path, post, remove, who } from "../api.js";
import { ask, dialog, h, head, label, problemBox, select, show, table, tag, when } from "../ui.js";

/** @type {[string, string][]} */
const ROLES = [["viewer", "viewer"], ["operator", "operator"], ["administrator", "administrator"]];

/** @type {import("../app.js").Open} */
export async function open(main) {
  const users = h("section", { class: "card" });
  const tokens = h("section", { class: "card" });
  main.append(head("Users and tokens"), users, tokens);
  await Promise.all([showUsers(), showTokens()]);

  async function showUsers() {
    await guarded(users, async () => {
      const answer = await get("/users");
      show(users, h("h2", null, "Users"),
        table("Users", ["Name", "Role", "Since", "State", "Change"], answer.users.map((user) => [user.name, user.role, when(user.created), state(user), changes(user)])),
        h("div", { class: "actions" }, h("button", { type: "button", onclick: newUser }, "New user")));
    });
  }

  function changes(user) {
    const act = (verb, does) => [h("button", { type: "button", onclick: does }, verb, h("span", { class: "unseen" }, ` ${user.name}`)), " "];
    const order = (title, text, verb, where) => async () => {
      await ask({ title, text, verb, act: (reason) => post(where, { reason }) });
      await showUsers();
    };
    return [
      act("Link", () => linkFor(user.name)),
      user.name !== who().user && [
        act("Role", () => newRole(user)),
        user.disabled
          ? act("Enable", order(`Enable ${user.name}?`, "The user can log in again.", "Enable", path("users", user.name, "enable")))
          : act("Disable", order(`Disable ${user.name}?`, "The user is logged out, and cannot log in.", "Disable", path("users", user.name, "disable"))),
        act("Remove", () => drop(`Remove the user ${user.name}?`, path("users", user.name), showUsers)),
      ],
    ];
  }

  async function showTokens() {
    await guarded(tokens, async () => {
      const answer = await get("/tokens");
      show(tokens, h("h2", null, "Tokens of programs"),
        table("Tokens", ["Number", "Name", "Role", "Pairs", "Until", "Change"], answer.tokens.map((token) => [token.id, token.name, token.role,
          token.pairs === null ? "all" : token.pairs.join(", "), when(token.expires),
          h("button", { type: "button", onclick: () => drop(`Remove token ${token.id}, ${token.name}?`, path("tokens", token.id), showTokens) },
            "Remove", h("span", { class: "unseen" }, ` token ${token.id}`))]), "No tokens."),
        h("div", { class: "actions" }, h("button", { type: "button", onclick: newToken }, "New token")));
    });
  }

  async function newUser() {
    const name = h("input", { required: true, autocomplete: "off", autocapitalize: "none" });
    const role = select({}, ROLES, "viewer");
    const made = await ask({ title: "New user", verb: "Make", text: "The user chooses a password by a link that can be used once.",
      fields: () => [label("Name", name), label("Role", role)], act: (reason) => post("/users", { name: name.value, role: role.value, reason }) });
    if (made) await once(`Link for ${made.user}`, address(made));
    await showUsers();
  }

  async function newRole(user) {
    const role = select({}, ROLES, user.role);
    await ask({ title: `Role of ${user.name}`, verb: "Change", text: "It holds at once.", fields: () => [label("Role", role)],
      act: (reason) => post(path("users", user.name, "role"), { role: role.value, reason }) });
    await showUsers();
  }

  async function newToken() {
    const name = h("input", { required: true, autocomplete: "off", autocapitalize: "none" });
    const role = select({}, ROLES, "viewer");
    const days = h("input", { type: "number", min: "1", max: "3650", value: "90", required: true });
    const made = await ask({ title: "New token", verb: "Make", text: "It is shown once.", fields: () => [label("Name", name), label("Role", role), label("Days", days)],
      act: (reason) => post("/tokens", { name: name.value, role: role.value, days: Number(days.value), reason }) });
    if (made) await once(`Token ${made.id}`, made.token);
    await showTokens();
  }
}

function state(user) {
  if (user.disabled) return tag("disabled", "warn");
  return user.has_password ? tag("can log in", "good") : tag("has not opened the link yet", "warn");
}

async function linkFor(name) {
  const made = await ask({ title: `Link for ${name}`, verb: "Make", text: "By it the user sets another password; the old one counts until then.",
    act: (reason) => post(path("users", name, "link"), { reason }) });
  if (made) await once(`Link for ${name}`, address(made));
}

/** Shows what is not shown again. */
const once = (title, secret) => dialog(title, (close, body) => show(body, h("p", null, "Copy it now; it is not shown again."),
  h("pre", { tabindex: "0" }, secret), h("div", { class: "actions" }, h("button", { type: "button", onclick: close }, "Close"))));

async function drop(title, where, after) {
  await dialog(title, (close, body) => {
    const problem = h("div");
    const go = () => guarded(problem, async () => {
      await remove(where);
      close();
    });
    show(body, problem, h("div", { class: "actions" }, h("button", { type: "button", class: "main", onclick: go }, "Remove"),
      h("button", { type: "button", onclick: close }, "Leave it")));
  });
  await after();
}

async function guarded(where, act) {
  try {
    await act();
  } catch (problem) {
    show(where, problemBox(problem));
  }
}

/** A link for somebody else: this page may have been reached by a way that is one's own (SSH, a certificate), so the SCS's word counts there.
 * @param {any} made */
const address = (made) => (location.protocol === "https:" || !made.url ? location.origin + made.path : made.url);
