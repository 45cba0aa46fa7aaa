// Users and machine tokens, for administrators: making, changing role, disabling, removing. What is secret is shown once.

import { get, path, post, put, remove, who } from "../api.js";
import { ask, dialog, h, head, label, problemBox, select, show, table, tag, when } from "../ui.js";

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
      show(users, h("h2", null, "Users"), table("Users", ["Name", "Role", "State", ""], answer.users.map((user) => [user.name, user.role,
        user.disabled ? tag("disabled", "warn") : tag("enabled", "good"), user.name !== who().user && [
          h("button", { type: "button", onclick: () => change(user) }, "Change", h("span", { class: "unseen" }, ` ${user.name}`)), " ",
          h("button", { type: "button", onclick: () => linkFor(user.name) }, "New link"), " ",
          h("button", { type: "button", onclick: () => drop("user", path("users", user.name), user.name, showUsers) }, "Remove", h("span", { class: "unseen" }, ` ${user.name}`))]])),
      h("div", { class: "actions" }, h("button", { type: "button", onclick: newUser }, "New user")));
    });
  }

  async function showTokens() {
    await guarded(tokens, async () => {
      const answer = await get("/tokens");
      show(tokens, h("h2", null, "Machine tokens"), table("Machine tokens", ["Name", "Role", "Pairs", "Until", ""], answer.tokens.map((token) => [token.name, token.role,
        (token.pairs ?? []).join(", ") || "all", token.expires_at ? when(token.expires_at) : "",
        h("button", { type: "button", onclick: () => drop("token", path("tokens", token.id ?? token.name), token.name, showTokens) }, "Remove", h("span", { class: "unseen" }, ` ${token.name}`))])),
      h("div", { class: "actions" }, h("button", { type: "button", onclick: newToken }, "New token")));
    });
  }

  async function newUser() {
    const name = h("input", { required: true, autocomplete: "off" });
    const role = select({}, ROLES, "viewer");
    const made = await ask({ title: "New user", verb: "Make", text: "The user chooses a password by a link that can be used once.",
      fields: () => [label("Name", name), label("Role", role)], act: (reason) => post("/users", { name: name.value, role: role.value, reason }) });
    if (made) await secret("Link for the new user", made);
    await showUsers();
  }

  async function change(user) {
    const role = select({}, ROLES, user.role);
    const disabled = h("input", { type: "checkbox", checked: user.disabled });
    await ask({ title: `Change ${user.name}`, verb: "Change", text: "It holds at once, for open sessions too.",
      fields: () => [label("Role", role), label("Disabled", disabled, "row")],
      act: (reason) => put(path("users", user.name), { role: role.value, disabled: disabled.checked, reason }) });
    await showUsers();
  }

  async function linkFor(name) {
    const made = await ask({ title: `New link for ${name}`, verb: "Make", text: "The password of before counts until the link is used.",
      act: (reason) => post(path("users", name, "link"), { reason }) });
    if (made) await secret(`Link for ${name}`, made);
  }

  async function newToken() {
    const name = h("input", { required: true, autocomplete: "off" });
    const role = select({}, ROLES, "viewer");
    const days = h("input", { type: "number", min: "1", max: "365", value: "90" });
    const made = await ask({ title: "New token", verb: "Make", text: "It is shown once.",
      fields: () => [label("Name", name), label("Role", role), label("Days", days)],
      act: (reason) => post("/tokens", { name: name.value, role: role.value, days: Number(days.value), reason }) });
    if (made) await secret("The token", made);
    await showTokens();
  }
}

const secret = (title, made) => dialog(title, (close, body) => show(body, h("p", null, "Copy it now; it is not shown again."),
  h("pre", { tabindex: "0" }, made.link ?? made.token), h("div", { class: "actions" }, h("button", { type: "button", onclick: close }, "Close"))));

async function drop(kind, where, name, after) {
  await dialog(`Remove the ${kind} ${name}?`, (close, body) => {
    const problem = h("div");
    const go = async () => {
      await guarded(problem, async () => {
        await remove(where);
        close();
      });
    };
    show(body, problem, h("div", { class: "actions" }, h("button", { type: "button", class: "main", onclick: go }, "Remove"), h("button", { type: "button", onclick: close }, "Leave it")));
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
