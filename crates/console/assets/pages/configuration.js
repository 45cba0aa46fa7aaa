// The cluster file in force: looking at it, changing it (checked, planned, then applied), and going back to an earlier one. The
// text has secrets in it and is for administrators; what was in force when, and what it changed, is for everybody.

import { get, may, path, post } from "../api.js";
import { ask, h, head, problemBox, say, show, table, tag, when } from "../ui.js";

const HOW = { started: "read when the SCS started", applied: "applied", reloaded: "reloaded", "rolled-back": "rolled back" };

/** @type {import("../app.js").Open} */
export async function open(main) {
  const about = h("section", { class: "card" });
  const change = h("section", { class: "card" });
  const past = h("section", { class: "card" });
  main.append(head("Configuration"), about, may("administrator") && change || "", past);
  let now = await get("/configuration");
  tell();
  await history();
  if (!may("administrator")) {
    about.append(h("p", { class: "dim" }, "Its text and changes of it are for administrators."));
    return;
  }
  let inForce = (await get("/configuration/text")).text;
  const editor = h("textarea", { class: "editor", spellcheck: "false", "aria-label": "Cluster file", value: inForce });
  const result = h("div", { "aria-live": "polite" });
  change.append(h("h2", null, "Cluster file"), editor, h("div", { class: "actions" },
    h("button", { type: "button", onclick: plan }, "Check and plan"),
    h("button", { type: "button", class: "main", onclick: () => apply(editor.value) }, "Apply"),
    h("button", { type: "button", onclick: () => { editor.value = inForce; show(result); } }, "Discard changes")), result);

  function tell() {
    show(about, h("p", null, `Revision ${now.revision.number} is in force: `, howText(now.revision), now.revision.reason && `: ${now.revision.reason}`),
      h("p", { class: "dim" }, now.path),
      now.file_differs && h("div", { class: "problem", role: "alert" }, `The file on the SCS's host: ${now.file_differs}`,
        may("administrator") && h("div", { class: "actions" },
          h("button", { type: "button", onclick: () => decide({}, "Reload the file", "Reload") }, "Reload the file"))),
      now.waits_for_restart.length > 0 && [h("h3", null, "Waiting for a restart of the SCS"), changes(now.waits_for_restart)]);
  }

  /** What a configuration would do; null where it cannot be used, which is shown then. */
  async function look(body) {
    try {
      const outlook = await post("/configuration/plan", body);
      show(result, found(outlook), outlook.errors === 0 && planned(outlook));
      return outlook.errors === 0 ? outlook : null;
    } catch (problem) {
      show(result, problemBox(problem));
      return null;
    }
  }

  async function plan() {
    const outlook = await look({ text: editor.value });
    say(outlook ? "It can be applied." : "It has errors.");
  }

  const apply = (text) => decide({ text }, "Apply this configuration", "Apply");

  /** Shows what follows, asks, and does what was shown: not what it would be on top of somebody else's change. */
  async function decide(body, title, verb) {
    const outlook = await look(body);
    if (!outlook) return;
    const applied = await ask({ title, verb, text: planned(outlook),
      act: (reason) => post("/configuration", { ...body, base: outlook.base, digest: outlook.digest, reason }) });
    if (!applied) return;
    now = await get("/configuration");
    inForce = (await get("/configuration/text")).text;
    editor.value = inForce;
    tell();
    const text = `Revision ${applied.number} is in force.`;
    say(text);
    show(result, h("p", { class: "good" }, text));
    await history();
  }

  const found = (outlook) => outlook.diagnostics.length > 0 && h("ul", { class: outlook.errors > 0 ? "problem" : "hints", role: "alert" },
    outlook.diagnostics.map((d) => h("li", null, tag(d.severity, d.severity === "error" ? "bad" : "warn"), " ",
      d.at && [h("button", { type: "button", onclick: () => goTo(d.at.line, d.at.column) }, `line ${d.at.line}, column ${d.at.column}`), " "],
      d.message, d.at?.label && ` (${d.at.label})`, d.help && h("p", { class: "dim" }, d.help))));

  function goTo(line, column) {
    const lines = editor.value.split("\n");
    const from = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0);
    editor.focus();
    editor.setSelectionRange(from + Math.max(0, column - 1), from + (lines[line - 1] ?? "").length);
    editor.scrollTop = (line - 5) * parseFloat(getComputedStyle(editor).lineHeight);
  }

  async function history() {
    try {
      const { revisions } = await get("/configuration/revisions");
      show(past, h("h2", null, "History"), revisions.map((revision) => h("details", { "data-key": `revision ${revision.number}` },
        h("summary", null, `Revision ${revision.number}: `, howText(revision), revision.reason && `: ${revision.reason}`),
        changes(revision.changes, "Nothing is on record of what it changed."),
        may("administrator") && revision.number !== now.revision.number && h("div", { class: "actions" },
          h("button", { type: "button", onclick: () => decide({ revision: revision.number }, `Roll back to revision ${revision.number}`, "Roll back") },
            `Roll back to revision ${revision.number}`)))));
    } catch (problem) {
      show(past, problemBox(problem));
    }
  }
}

const howText = (revision) => [HOW[revision.how.how] ?? revision.how.how, revision.how.to ? ` to revision ${revision.how.to}` : "", " ", when(revision.at), ` by ${revision.who}`];

const planned = (outlook) => [
  h("p", null, `Made of revision ${outlook.base}, which is in force. `, outlook.changes.some((change) => change.interrupts) && "Callers notice what is marked."),
  changes(outlook.changes, outlook.diff ? "The text differs in ways that change nothing." : "It is the same as what is in force."),
  outlook.diff && h("details", null, h("summary", null, "Difference of the texts"), h("pre", { tabindex: "0" }, outlook.diff)),
];

const changes = (all, empty = "Nothing.") => table("What changes", ["What", "Change", "What follows"],
  all.map((change) => [change.subject, change.change, [change.interrupts && [tag("callers notice", "bad"), " "], change.consequence]]), empty);
