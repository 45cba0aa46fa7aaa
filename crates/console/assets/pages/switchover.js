// A switchover from plan to result: what is checked and what was seen, what would be done, a reason, and then the numbered
// steps as they happen.

import { get, path, switchOver as order } from "../api.js";
import * as live from "../live.js";
import { dialog, h, label, problemBox, say, show, span, tag } from "../ui.js";

/** @param {string} pair @param {HTMLElement} where the steps are shown once it has begun */
export function switchOver(pair, where) {
  return dialog(`Switch over ${pair}`, async (close, body) => {
    show(body, h("p", null, "Making the plan."));
    try {
      const plan = await get(path("pairs", pair, "plan"));
      confirm(pair, plan, where, close, body);
    } catch (problem) {
      show(body, problemBox(problem), leaveIt(close));
    }
  });
}

const leaveIt = (close) => h("div", { class: "actions" }, h("button", { type: "button", onclick: close }, "Close"));

function confirm(pair, plan, where, close, body) {
  const failed = plan.checks.filter((check) => !check.passed);
  const forcible = failed.length > 0 && failed.every((check) => check.may_be_forced);
  const reason = h("input", { name: "reason", maxlength: "500", required: true, autocomplete: "off", autofocus: failed.length === 0 });
  const force = h("input", { type: "checkbox", name: "force" });
  const problem = h("div");
  const go = h("button", { type: "submit", class: "main", disabled: failed.length > 0 }, `Make ${plan.to} primary`);
  force.onchange = () => { go.disabled = !force.checked; };
  const form = h("form", null,
    h("p", null, `From ${plan.from ?? "nobody"} to ${plan.to}.`),
    h("h3", null, "Checks"), checks(plan.checks),
    h("h3", null, "What is done"), h("ol", null, plan.steps.map((step) => h("li", null, step))),
    plan.callers.length > 0 && [h("h3", null, "What callers notice"), h("ul", null, plan.callers.map((line) => h("li", null, line)))],
    h("div", { class: "form" }, label("Reason, for the record", reason, "wide"), forcible && label("Order it although a check failed", force, "row")),
    problem,
    h("div", { class: "actions" }, go, h("button", { type: "button", onclick: () => again(pair, where, close, body) }, "Plan again"),
      h("button", { type: "button", onclick: close }, "Leave it")));
  form.onsubmit = async (event) => {
    event.preventDefault();
    go.disabled = true;
    try {
      const accepted = await order(pair, { to: plan.to, reason: reason.value, force: force.checked }, plan.hash);
      say(accepted.text);
      close();
      if (accepted.incident !== null) follow(accepted.incident, where);
    } catch (error) {
      show(problem, problemBox(error), error.body?.plan && checks(error.body.plan.checks));
      go.disabled = false;
    }
  };
  show(body, form);
  if (failed.length === 0) reason.focus();
}

async function again(pair, where, close, body) {
  try {
    const plan = await get(path("pairs", pair, "plan"));
    body.replaceChildren();
    confirm(pair, plan, where, close, body);
  } catch (problem) {
    show(body, problemBox(problem), leaveIt(close));
  }
}

const checks = (all) => h("ul", { class: "steps" }, all.map((check) => h("li", null,
  h("span", { class: check.passed ? "number good" : "number bad-text", "aria-hidden": "true" }, check.passed ? "✓" : "✗"),
  tag(check.passed ? "pass" : check.may_be_forced ? "forcible" : "fail", check.passed ? "good" : check.may_be_forced ? "warn" : "bad"),
  h("span", null, check.what, h("span", { class: "dim" }, `: ${check.seen}`), check.remedy && h("p", null, check.remedy)))));

/** Shows an incident's steps as they arrive, until it has ended. @param {number} id @param {HTMLElement} where */
export function follow(id, where) {
  let told = 0;
  const list = h("div", { "aria-live": "polite" });
  where.replaceChildren(h("section", { class: "card", "aria-label": `Incident ${id}` }, list));
  const draw = (incident) => {
    if (incident.id !== id) return;
    show(list, h("h2", null, h("a", { href: `#/incident/${id}` }, `Incident ${id}`), " ", outcomeTag(incident.outcome)), stepList(incident));
    const ended = incident.outcome.outcome !== "open";
    if (incident.steps.length > told && ended) say(`Incident ${id}: ${outcomeText(incident.outcome)}`);
    told = incident.steps.length;
    if (ended) off();
  };
  const off = live.on("incident", draw);
  // It may have begun, and even ended, before the events were listened to.
  get(path("incidents", id)).then(draw).catch((problem) => show(list, problemBox(problem)));
}

/** @param {any} incident */
export const stepList = (incident) => h("ol", { class: "steps" }, incident.steps.map((step) => h("li", null,
  h("span", { class: "number" }, step.number ?? ""),
  h("span", { class: "dim" }, `+${span(Math.max(0, step.at - incident.begun))}`),
  h("span", null, step.text, step.host && h("span", { class: "dim" }, ` (${step.host})`)))));

/** @param {any} outcome */
export function outcomeText(outcome) {
  const texts = { open: "under way", completed: "completed", "rolled-back": `rolled back: ${outcome.why}`, superseded: "superseded", interrupted: "interrupted" };
  return texts[outcome.outcome] ?? outcome.outcome;
}

/** @param {any} outcome */
export const outcomeTag = (outcome) => tag(outcomeText(outcome), outcome.outcome === "completed" ? "good" : outcome.outcome === "open" ? "warn" : "bad");
