// The cluster file in force: looking at it, changing it (checked, planned, then applied), and going back to an older one.

import { get, may, path, post } from "../api.js";
import { ask, h, head, problemBox, say, show, table, when } from "../ui.js";

/** @type {import("../app.js").Open} */
export async function open(main) {
  const body = h("div");
  const past = h("section", { class: "card" });
  main.append(head("Configuration"), body, past);
  let current = await get("/configuration");
  const mayChange = may("administrator");
  const editor = h("textarea", { class: "editor", spellcheck: "false", "aria-label": "Cluster file", readonly: !mayChange, value: current.text });
  const result = h("div", { "aria-live": "polite" });
  const about = h("p", { class: "dim" });
  body.append(about, editor, mayChange ? h("div", { class: "actions" },
    h("button", { type: "button", onclick: validate }, "Validate"),
    h("button", { type: "button", onclick: plan }, "Plan"),
    h("button", { type: "button", class: "main", onclick: apply }, "Apply")) : h("p", null, "Changing it is for administrators."), result);
  tell();
  await history();

  function tell() {
    show(about, `Version ${current.version}`, current.at ? [", since ", when(current.at)] : "", current.who ? `, by ${current.who}` : "");
  }

  async function validate() {
    try {
      const { diagnostics } = await post("/configuration/validate", { text: editor.value });
      show(result, diagnostics.length === 0 ? h("p", { class: "good" }, "Nothing is wrong with it.") : problems(diagnostics));
      return diagnostics.length === 0;
    } catch (problem) {
      show(result, problemBox(problem));
      return false;
    }
  }

  const problems = (diagnostics) => h("ul", { class: "problem", role: "alert" }, diagnostics.map((d) => h("li", null,
    h("button", { type: "button", onclick: () => goTo(d.line, d.column) }, `line ${d.line}, column ${d.column}`), ` ${d.message ?? d.text}`,
    d.expected && ` (expected: ${d.expected})`, d.hint && h("p", null, d.hint))));

  function goTo(line, column) {
    const lines = editor.value.split("\n");
    const from = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0);
    editor.focus();
    editor.setSelectionRange(from + Math.max(0, column - 1), from + (lines[line - 1] ?? "").length);
    editor.scrollTop = (line - 5) * parseFloat(getComputedStyle(editor).lineHeight);
  }

  async function plan() {
    if (!(await validate())) return;
    try {
      const answer = await post("/configuration/plan", { text: editor.value });
      show(result, changes(answer));
    } catch (problem) {
      show(result, problemBox(problem));
    }
  }

  async function apply() {
    if (!(await validate())) return;
    const done = await ask({ title: "Apply this configuration", verb: "Apply", text: "All agents get it at once.",
      act: (reason) => post("/configuration", { text: editor.value, base: current.version, reason }) });
    if (done) await reload("The configuration is applied.");
  }

  async function reload(text) {
    current = await get("/configuration");
    editor.value = current.text;
    tell();
    say(text);
    show(result, h("p", { class: "good" }, text));
    await history();
  }

  async function history() {
    try {
      const { versions } = await get("/configuration/history");
      show(past, h("h2", null, "Versions"), table("Versions", ["Version", "When", "Who", "Why", ""], versions.map((v) => [v.version, when(v.at), v.who, v.reason,
        mayChange && v.version !== current.version && h("button", { type: "button", onclick: () => back(v.version) }, `Go back to ${v.version}`)])));
    } catch (problem) {
      show(past, problemBox(problem));
    }
  }

  async function back(version) {
    const done = await ask({ title: `Go back to version ${version}`, verb: "Go back", text: "It becomes a new version with the old text.",
      act: (reason) => post(path("configuration", version, "rollback"), { base: current.version, reason }) });
    if (done) await reload(`Back at what version ${version} said.`);
  }
}

const changes = (answer) => (answer.changes.length === 0 ? h("p", null, "Nothing would change.")
  : table("What would change", ["Change", "What", "What follows"], answer.changes.map((change) => [change.change ?? change.kind, change.what ?? change.object, change.consequence])));
