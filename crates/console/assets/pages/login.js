// Signing in, and by a one-time link choosing a password: the first administrator's, or that of a new user.

import { post, signIn } from "../api.js";
import { h, label, problemBox, show } from "../ui.js";

/** @param {HTMLElement} main @param {{parts: string[], query: URLSearchParams}} address @param {() => Promise<void>} signedIn */
export function open(main, { parts, query }, signedIn) {
  const link = parts[0] === "first" ? parts[1] ?? query.get("token") ?? "" : null;
  document.title = link === null ? "Sign in - Takeover" : "Choose a password - Takeover";
  const user = h("input", { name: "user", autocomplete: "username", required: true, autofocus: true, autocapitalize: "none" });
  const password = h("input", { name: "password", type: "password", required: true, autocomplete: link === null ? "current-password" : "new-password" });
  const again = h("input", { name: "again", type: "password", required: true, autocomplete: "new-password" });
  const problem = h("div");
  const go = h("button", { class: "main", type: "submit" }, link === null ? "Sign in" : "Set the password and sign in");
  const form = h("form", { class: "form" }, label("User", user), label("Password", password), link !== null && label("Password again", again), problem, go);
  form.onsubmit = async (event) => {
    event.preventDefault();
    go.disabled = true;
    try {
      if (link !== null) {
        if (password.value !== again.value) throw new Error("the two passwords are not the same");
        await post("/session/first", { token: link, user: user.value, password: password.value });
      }
      await signIn({ user: user.value, password: password.value });
      await signedIn();
    } catch (error) {
      show(problem, problemBox(error));
      go.disabled = false;
      password.focus();
    }
  };
  show(main, h("div", { class: "card login" }, h("h1", null, "Takeover"),
    h("p", { class: "dim" }, link === null
      ? "There is no default password. The first administrator's one-time link is in the SCS's log at its first start."
      : "This link can be used once."), form));
  user.focus();
}
