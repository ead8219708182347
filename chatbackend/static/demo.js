// The demo page: signs the picked customer in, and shows how the last answer was made.
"use strict";
const receipt = document.getElementById("receipt");
const customers = document.getElementById("customers");
const turns = new Map(); // the widget's id of a message -> {turn, question, who}

async function signIn() {
  const answer = await fetch("/demo/identity", { method: "POST", body: new FormData(customers) });
  if (!answer.ok) throw new Error(`signing in failed: ${answer.status}`);
  return (await answer.json()).jwt;
}

function picked() {
  return customers.querySelector(":checked").closest(".card");
}

// The widget, whose script runs after this one, asks here who the customer is.
window.frugalchat = { identity: signIn };
customers.querySelector("input[type=radio]").checked = true;

addEventListener("load", () => {
  customers.addEventListener("change", async () => {
    frugalchat.identify(await signIn());
    frugalchat.open();
  });
  for (const button of document.querySelectorAll(".questions button")) {
    button.addEventListener("click", () => frugalchat.open(button.textContent));
  }
  frugalchat.on("ack", ({ reply_to, data }) => {
    if (data.turn_id) turns.set(reply_to, { ...turns.get(reply_to), turn: data.turn_id, who: picked() });
  });
  frugalchat.on("message.created", ({ reply_to, data }) => {
    const asked = turns.get(reply_to);
    if (data.role === "customer") turns.set(reply_to, { ...asked, question: data.text });
    else if (asked) show(asked);
  });
  frugalchat.on("problem", ({ reply_to }) => turns.has(reply_to) && show(turns.get(reply_to)));
});

// --- the receipt ------------------------------------------------------------------------------

async function show(asked) {
  const answer = await fetch(`/demo/turns/${asked.turn}`);
  if (answer.ok) receipt.replaceChildren(...lines(asked, await answer.json()));
}

function make(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function lines(asked, turn) {
  const name = asked.who.querySelector("strong").textContent;
  const plan = asked.who.querySelector(".plan").textContent;
  const tried = new Set(turn.attempts.map((attempt) => attempt.model));
  const untried = turn.tiers.filter((model) => !tried.has(model));
  const list = make("ol", "", ...turn.attempts.map(attempt), ...untried.map(spared));
  const rows = [make("p", "asked", `“${asked.question}”`), make("p", "by", `asked by ${name}, ${plan}`), list];
  rows.push(row("figures", "Judging the answers, embedding the question", `$${turn.computed}`));
  rows.push(row("total", "Cost of this question", `$${turn.cost}`));
  rows.push(row("balance", "Balance left", `$${turn.balance}`));
  for (const note of notes(turn)) rows.push(make("p", "note", note));
  return rows;
}

function row(className, left, right) {
  return make("p", `row ${className}`, make("span", "", left), make("span", "money", right));
}

function attempt(it, index) {
  const head = make("div", "row", make("span", "model", `${index + 1}. ${it.model}`), make("span", "outcome", it.error || it.outcome));
  const parts = [head];
  if (it.score !== null) parts.push(bar(it), figures(`score ${it.score.toFixed(3)}, needs ${it.threshold.toFixed(3)}`));
  const tokens = `${it.input_tokens ?? "?"} tokens in, ${it.output_tokens ?? "?"} out${it.estimated ? " (estimated)" : ""}`;
  const seconds = it.seconds === null ? "" : `, ${it.seconds.toFixed(1)} s`;
  parts.push(make("div", "row figures", make("span", "", tokens + seconds), make("span", "money", `$${it.cost}`)));
  if (it.outcome === "rejected" && it.text) parts.push(make("blockquote", "", it.text));
  return make("li", it.outcome, ...parts);
}

function bar({ score, threshold }) {
  const reached = make("i");
  const needed = make("b");
  reached.style.width = `${100 * score}%`;
  needed.style.left = `${100 * threshold}%`;
  const made = make("div", "score", reached, needed);
  made.setAttribute("aria-hidden", "true");
  return made;
}

function figures(text) {
  return make("p", "figures", text);
}

function spared(model) {
  return make("li", "untried", make("div", "row", make("span", "", model), make("span", "", "not needed")));
}

function notes({ context, state, problem }) {
  const told = [];
  if (state !== "Answered") told.push(`The question was ${state.toLowerCase()}${problem ? `: ${problem.replaceAll("_", " ")}` : ""}.`);
  if (context.source_error) told.push(`The shop's records could not be asked (${context.source_error}); the last known were used.`);
  for (const record of context.stale ?? []) told.push(`${record.type} ${record.external_id} is as of ${record.as_of}.`);
  const cut = (context.dropped_records?.length ?? 0) + (context.dropped_passages?.length ?? 0) + (context.dropped_history ?? 0);
  if (cut) told.push(`${cut} less relevant pieces did not fit the prompt.`);
  return told;
}
