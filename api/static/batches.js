// "Batches": the latest ones, and how long the queue is.

import { Refused, explain, getJson } from "./client.js";
import { alertBox, h } from "./dom.js";
import { recall } from "./memory.js";
import { STATES, count, duration } from "./words.js";

const EVERY = 10; // seconds between two refreshes

export function batchesView(model) {
  const element = h("div", { class: "stack" });
  let timer;
  let stopped = new AbortController();

  async function update() {
    try {
      show(await getJson("batches?limit=50", { signal: stopped.signal }));
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Refused)) throw error;
      element.replaceChildren(
        alertBox(
          error.status >= 500 || error.status === 0 ? "attention" : "bad",
          ...explain(error),
        ),
      );
    }
    timer = setTimeout(update, EVERY * 1000);
  }

  function show({ batches, queue }) {
    element.replaceChildren(
      h(
        "div",
        { class: "card stack" },
        h(
          "div",
          { class: "title-row" },
          h("h2", {}, "Latest batches"),
          queue && h("p", { class: "hint" }, waiting(queue)),
        ),
        batches.length ? table(batches) : empty(model),
      ),
    );
  }

  return {
    element,
    start() {
      stopped = new AbortController();
      update();
    },
    stop() {
      clearTimeout(timer);
      stopped.abort();
    },
  };
}

function waiting({ messages, oldest_seconds: age }) {
  if (!messages) return "No messages are waiting.";
  const oldest = age === undefined || age === null ? "" : `, the oldest for ${duration(age)}`;
  return `${count(messages, "message")} waiting${oldest}.`;
}

function table(batches) {
  const columns = ["Batch", "State", "Rows", "Rejected", "Model", "Time"];
  return h(
    "div",
    { class: "scroll tall", tabIndex: 0, role: "region", "aria-label": "Latest batches" },
    h(
      "table",
      { class: "data" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          columns.map((name) =>
            h(
              "th",
              {
                scope: "col",
                class: name === "Rows" || name === "Rejected" ? "number" : undefined,
              },
              name,
            ),
          ),
        ),
      ),
      h("tbody", {}, batches.map(row)),
    ),
  );
}

function row(batch) {
  const rows = batch.rows ?? {};
  const number = (value) =>
    h("td", { class: "number" }, value === undefined ? "" : value.toLocaleString("en"));
  return h(
    "tr",
    {},
    h("td", {}, linkTo(batch.batch_id)),
    h("td", {}, h("span", { class: `badge ${batch.status}` }, STATES[batch.status])),
    number(rows.total),
    number(rows.rejected),
    h("td", {}, batch.model?.version ?? batch.model_version ?? ""),
    h("td", {}, time(batch)),
  );
}

// The name of the file, where this tab sent it, and always the batch's own.
function linkTo(id) {
  const { name } = recall(id);
  const link = h("a", { href: `#batch=${encodeURIComponent(id)}` }, name ?? id);
  return name ? [link, h("span", { class: "state" }, id)] : link;
}

function time(batch) {
  const at = batch.times?.finished ?? batch.times?.received ?? batch.created;
  return at ? new Date(at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : "";
}

function empty(model) {
  return h(
    "div",
    {},
    h("p", {}, `No file of ${model.nouns} was sent yet.`),
    h("div", { class: "buttons" }, h("a", { class: "button", href: "#file" }, "Score a file")),
  );
}
