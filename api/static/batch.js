// One batch: its progress, then its outcome.

import { call, explain } from "./client.js";
import { alertBox, h, svg } from "./dom.js";
import { follow, isFinal, path } from "./follow.js";
import { recall } from "./memory.js";
import { outcomeView } from "./outcome.js";
import { STATES, count, duration, percent } from "./words.js";

const PATIENCE = 40; // seconds in the queue after which the page says that no worker has taken it
/** Follows a batch until `stop` is called. */
export function batchView(model, id) {
  const sent = recall(id);
  const badge = h("span", { class: "badge", role: "status" });
  const trouble = h("div");
  const content = h("div", { class: "stack" }, h("p", { class: "hint" }, "Loading …"));
  const actions = cancelButton(id);
  const element = h(
    "div",
    { class: "stack" },
    h(
      "div",
      { class: "card stack" },
      h("div", { class: "title-row" }, h("h2", {}, sent.name ?? "Batch"), badge),
      h("p", { class: "hint" }, "Batch ", h("code", {}, id)),
      trouble,
      content,
      actions,
    ),
  );
  const started = sent.sent ?? Date.now();
  const stop = follow(id, show, showTrouble);
  let outcome;

  function show(state) {
    trouble.replaceChildren();
    badge.textContent = STATES[state.status];
    badge.className = `badge ${state.status}`;
    actions.hidden = isFinal(state.status);
    if (!isFinal(state.status)) {
      content.replaceChildren(progress(state, sent, started));
    } else {
      outcome = outcomeView(model, id, state, sent);
      content.replaceChildren(...outcome.top);
      element.append(...outcome.cards);
    }
  }

  function showTrouble(error, passes) {
    const [title, text] = explain(error);
    const more = passes ? `${text} The page keeps trying.` : text;
    trouble.replaceChildren(alertBox(passes ? "attention" : "bad", title, more));
    if (!passes) {
      actions.hidden = true;
      content.replaceChildren();
    }
  }

  return {
    element,
    stop() {
      stop();
      outcome?.stop();
    },
  };
}

function cancelButton(id) {
  const told = h("div");
  const button = h(
    "button",
    { type: "button", class: "quiet", onclick: cancel },
    "Cancel this batch",
  );

  async function cancel() {
    button.disabled = true;
    told.replaceChildren(h("p", { class: "hint", role: "status" }, "Cancelling …"));
    try {
      await call(path(id), { method: "DELETE" });
    } catch (error) {
      button.disabled = false;
      told.replaceChildren(alertBox("attention", ...explain(error)));
    }
  }

  return h("div", { hidden: true, class: "stack" }, button, told);
}

function progress(state, sent, started) {
  const running = state.status === "running";
  const share = running ? shareOf(state, sent) : 0;
  const step = (name, status) => h("li", { class: status }, name);
  const fill = {
    class: `fill${share === undefined ? " waits" : ""}`,
    height: 10,
    width: `${(share ?? 1) * 100}%`,
  };
  return h(
    "div",
    { class: "stack" },
    h(
      "ol",
      { class: "steps" },
      step("Received", "done"),
      step("Queued", running ? "done" : "now"),
      step("Running", running ? "now" : ""),
      step("Done", ""),
    ),
    h(
      "div",
      { class: "bar" },
      svg("svg", { width: "100%", height: 10, "aria-hidden": "true" }, svg("rect", fill)),
    ),
    running ? h("p", {}, rowsSoFar(state, share)) : waiting(state, started),
    running && state.parts && h("p", { class: "hint" }, partsSoFar(state.parts)),
  );
}

/** The share that is done, where the whole is known. */
function shareOf({ rows, bytes }, sent) {
  if (bytes?.total) return Math.min(bytes.done / bytes.total, 1);
  return sent.count ? Math.min(rows.total / sent.count, 1) : undefined;
}

function rowsSoFar({ rows }, share) {
  const done = `${count(rows.total, "row")} so far`;
  const part = share === undefined ? "" : `, ${percent(share)}`;
  const rejected = rows.rejected ? `, ${rows.rejected.toLocaleString("en")} of them rejected` : "";
  return `${done}${part}${rejected}.`;
}

function partsSoFar({ done, total, workers }) {
  const before = total === undefined ? "" : `${done.toLocaleString("en")} of `;
  return `${before}${count(total ?? done, "part")}, ${count(workers, "worker")}.`;
}

function waiting(state, started) {
  const since = state.created ? Date.parse(state.created) : started;
  const seconds = (Date.now() - since) / 1000;
  if (seconds < PATIENCE) return h("p", {}, "Waiting for a worker.");
  return alertBox(
    "attention",
    `No worker has taken it for ${duration(seconds)}`,
    "The file is safe and will be scored as soon as a worker runs. If this lasts, tell the operator. You may close this page and come back.",
  );
}
