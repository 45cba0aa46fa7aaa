// Logging in; and, by a one-time link, choosing a password: the first administrator's, or that of a user.

import { get, hasEnded, logIn, post } from "../api.js";
import { h, label, problemBox, show, when } from "../ui.js";

/** @param {HTMLElement} main @param {string[]} parts of the address @param {() => Promise<void>} loggedIn */
export async function open(main, parts, loggedIn) {
  if (parts[0] === "password") await byLink(main, parts[1] ?? "", loggedIn);
  else await byAnyWay(main, loggedIn);
}

/** By the identity provider, where there is one, and by a password, where that is not switched off. */
async function byAnyWay(main, loggedIn) {
  let ways = { provider: null, passwords: true };
  try {
    ways = await get("/login");
  } catch {
    // What does not answer will say so when somebody tries.
  }
  if (ways.passwords) byPassword(main, loggedIn);
  else {
    document.title = "Log in - Takeover";
    main.replaceChildren(h("div", { class: "card login" }, h("h1", null, "Takeover"), hasEnded() && h("p", { class: "dim" }, h("b", null, "The session has ended."))));
  }
  if (ways.provider === null) return;
  // A link, because the browser goes away and comes back: to the front page, which goes on where this was (`after-login` in app.js).
  const go = h("a", { class: "main", href: "/api/v1/oidc/login" }, `Sign in with ${ways.provider}`);
  go.onclick = () => sessionStorage.setItem("after-login", location.hash);
  main.querySelector("h1").after(h("p", null, go));
  if (!ways.passwords) go.focus();
}

function byPassword(main, loggedIn) {
  document.title = "Log in - Takeover";
  const user = h("input", { name: "user", autocomplete: "username", required: true, autocapitalize: "none" });
  const password = h("input", { name: "password", type: "password", required: true, autocomplete: "current-password" });
  form(main, "Log in", [label("User", user), label("Password", password)], async () => {
    await logIn(user.value, password.value);
    await loggedIn();
  }, [hasEnded() && [h("b", null, "The session has ended."), " Log in again to go on where you were. "], "There is no default password. A link for the first administrator is in the SCS's journal; another is made on its host: takeover users link NAME."]);
  user.focus();
}

async function byLink(main, code, loggedIn) {
  document.title = "Choose a password - Takeover";
  let link;
  try {
    link = await post("/password/link", { code });
  } catch (problem) {
    show(main, h("div", { class: "card login" }, h("h1", null, "Takeover"), problemBox(problem), h("a", { href: "#/" }, "Log in")));
    return;
  }
  const user = h("input", { name: "user", autocomplete: "username", required: true, autocapitalize: "none", value: link.user ?? "", readonly: link.user !== null });
  const password = h("input", { name: "password", type: "password", required: true, minlength: "12", autocomplete: "new-password" });
  const again = h("input", { name: "again", type: "password", required: true, autocomplete: "new-password" });
  form(main, "Set the password and log in", [label("User", user), label("Password, 12 characters or more", password), label("Password again", again)],
    async () => {
      if (password.value !== again.value) throw new Error("The two passwords are not the same.");
      await post("/password", { code, user: user.value, password: password.value });
      await logIn(user.value, password.value);
      // The code is of no more use; it need not stay in the address.
      history.replaceState(null, "", "#/");
      await loggedIn();
    }, [link.user === null ? "This link makes the first administrator, whose name you choose. " : "", "It can be used once, until ", when(link.expires), "."]);
  (link.user === null ? user : password).focus();
}

/** @param {import("../ui.js").Child} about */
function form(main, verb, fields, act, about) {
  const problem = h("div");
  const go = h("button", { class: "main", type: "submit" }, verb);
  const element = h("form", { class: "form" }, fields, problem, go);
  element.onsubmit = async (event) => {
    event.preventDefault();
    go.disabled = true;
    try {
      await act();
    } catch (error) {
      show(problem, problemBox(error));
      go.disabled = false;
    }
  };
  main.replaceChildren(h("div", { class: "card login" }, h("h1", null, "Takeover"), h("p", { class: "dim" }, about), element));
}
