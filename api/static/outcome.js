// The view of a finished batch: counts, histogram, rejected rows, files to download.

import { Refused, call, explain, hasKey } from "./client.js";
import { serialise } from "./csv.js";
import { alertBox, h, save, svg } from "./dom.js";
import { path } from "./follow.js";
import { hasProbability } from "./kinds.js";
import { BINS, Results, SHOWN } from "./results.js";
import { capital, count, list, percent, size } from "./words.js";

const AT_ONCE = 64e6; // bytes of scores that are read without being asked

/** `top` goes below the batch's title, `cards` after it; `stop` ends what is still being read. */
export function outcomeView(model, id, state, sent) {
  if (state.status === "failed") return { top: [failed(state)], cards: [], stop() {} };
  if (state.status === "cancelled") {
    return {
      top: [
        alertBox(
          "attention",
          "This batch was cancelled",
          "It has no scores. Send the file again to score it.",
        ),
      ],
      cards: [],
      stop() {},
    };
  }
  const stopped = new AbortController();
  const read = h("div", { class: "card stack" });
  const warned = h("dd", {}, "…");
  const files = downloads(id, state, sent);
  const top = [figures(state.rows, warned), notes(model, state), files.element];
  readScores(id, sent, stopped.signal, read, (results) => {
    warned.textContent = results.warned.toLocaleString("en");
    files.excel.hidden = results.format !== "csv";
    if (results.warned) warned.parentElement.classList.add("some-amber");
    const cards = [histogram(results, model), rejectedView(model, results, state)].filter(Boolean);
    read.replaceChildren(...cards);
    read.hidden = cards.length === 0;
  });
  return { top, cards: [read], stop: () => stopped.abort() };
}

function failed({ reason }) {
  // A reason puts names between backticks.
  const parts = (reason ?? "the worker gave no reason").split("`");
  const text = parts.map((part, index) => (index % 2 ? h("code", {}, part) : part));
  return h(
    "div",
    { class: "stack" },
    h("p", { class: "big", role: "alert" }, "This batch was not scored: ", text),
    h("p", { class: "hint" }, "No row has a score. Correct the file and send it again."),
    h(
      "div",
      { class: "buttons" },
      h("a", { class: "button", href: "#file" }, "Choose another file"),
    ),
  );
}

function figures(rows, warned) {
  const figure = (name, value, kind) => h("div", { class: kind }, h("dt", {}, name), value);
  const number = (value) => h("dd", {}, value.toLocaleString("en"));
  return h(
    "dl",
    { class: "figures" },
    figure("Rows", number(rows.total)),
    figure("Scored", number(rows.scored)),
    figure("Rejected", number(rows.rejected), rows.rejected ? "some-red" : undefined),
    figure("With a warning", warned),
  );
}

/** The summary's texts next to its counts. */
function notes(model, state) {
  const titleOf = (name) => model.fields.find((field) => field.name === name)?.title ?? name;
  const warnings = (state.warnings ?? []).map((one) =>
    alertBox("attention", "Check this before you use the scores", one),
  );
  const absent = (state.absent_fields ?? []).map(titleOf);
  const ignored = state.ignored_columns ?? [];
  return h(
    "div",
    { class: "stack" },
    warnings,
    state.rows.total === 0 &&
      alertBox("attention", "The file has no rows", "It has a header line and nothing below it."),
    absent.length > 0 && h("p", { class: "hint" }, `Not in the file: ${list(absent)}.`),
    ignored.length > 0 && h("p", { class: "hint" }, `Ignored columns: ${list(ignored)}.`),
  );
}

function downloads(id, state, sent) {
  const trouble = h("div");
  const button = (title, kind, make) =>
    h(
      "button",
      {
        type: "button",
        class: kind,
        onclick: async (event) => {
          event.target.disabled = true;
          trouble.replaceChildren();
          try {
            await make();
          } catch (error) {
            trouble.replaceChildren(alertBox("bad", ...explain(error)));
          } finally {
            event.target.disabled = false;
          }
        },
      },
      title,
    );
  const answer = (query = "") => call(`${path(id)}/scores${query}`, { headers: { Accept: "*/*" } });
  const excel = button("For Excel", "quiet", async () => {
    const format = sent.decimal === "," ? "excel" : "excel-point";
    const scores = await answer(`?format=${format}`);
    save(await scores.blob(), `${id}-scores-excel.csv`);
  });
  excel.hidden = (sent.format ?? "csv") !== "csv";
  const element = h(
    "div",
    {},
    h(
      "div",
      { class: "buttons" },
      button("Download the scores", undefined, async () => {
        const scores = await answer();
        save(await scores.blob(), `${id}-scores.${formatOf(scores)}`);
      }),
      excel,
      report(id, button),
      state.rows.rejected > 0 &&
        button("Only the rejected rows", "quiet", async () =>
          saveRejected(id, await answer("?only=rejected"), sent),
        ),
    ),
    trouble,
  );
  return { element, excel };
}

/** A link to the report; with a key, which a link cannot send, the report as a file. */
function report(id, button) {
  if (!hasKey()) {
    const link = { class: "button quiet", href: `${path(id)}/report`, target: "_blank" };
    return h("a", link, "Report");
  }
  return button("Report", "quiet", async () => {
    const page = await call(`${path(id)}/report`, { headers: { Accept: "text/html" } });
    save(await page.blob(), `${id}-report.html`);
  });
}

const formatOf = (answer) =>
  answer.headers.get("Content-Type")?.startsWith("text/csv") ? "csv" : "jsonl";

/** Each piece of an answer's text. */
async function* pieces(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

/** The rejected rows with their inputs and the reason, in the form of the file that was sent. */
async function saveRejected(id, answer, sent) {
  const format = formatOf(answer);
  const results = new Results(format);
  const separator = sent.decimal === "," ? ";" : ",";
  const written = (rows) =>
    format === "csv" ? serialise(rows, separator) : rows.map((row) => `${row}\n`).join("");
  const parts = [];
  for await (const piece of pieces(answer)) parts.push(written(results.push(piece)));
  parts.push(written(results.end()));
  const header =
    format === "csv"
      ? `${sent.bom ? "\ufeff" : ""}${serialise([results.inputNames], separator)}`
      : "";
  save([header, ...parts], `${id}-rejected.${format}`, "text/plain");
}

/** Read the scores once for histogram and rejected rows; large files only when asked. */
async function readScores(id, sent, signal, element, onResults) {
  const told = h("p", { class: "hint", role: "status" }, "Reading the scores …");
  element.replaceChildren(told);
  try {
    const answer = await call(`${path(id)}/scores`, { headers: { Accept: "*/*" }, signal });
    const length = Number(answer.headers.get("Content-Length"));
    if (length > AT_ONCE) await asked(element, length);
    const results = new Results(formatOf(answer));
    for await (const piece of pieces(answer)) results.push(piece);
    results.end();
    onResults(results);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Refused)) throw error;
    const again = h(
      "button",
      {
        type: "button",
        class: "quiet",
        onclick: () => readScores(id, sent, signal, element, onResults),
      },
      "Try again",
    );
    element.replaceChildren(alertBox("bad", ...explain(error), h("p", {}, again)));
  }
}

function asked(element, length) {
  return new Promise((resolve) => {
    const go = h(
      "button",
      { type: "button", class: "quiet", onclick: resolve },
      `Read ${size(length)} of scores to show them`,
    );
    element.replaceChildren(go);
  });
}

function histogram(results, model) {
  if (results.scored === 0 || !hasProbability(model)) return undefined;
  const most = Math.max(...results.bins);
  const height = 140;
  const base = height + 6;
  const bars = results.bins.map((number, bin) => {
    const tall = number ? Math.max((number / most) * height, 2) : 0;
    const from = bin * (100 / BINS);
    return svg(
      "rect",
      { x: `${from + 0.3}%`, width: `${100 / BINS - 0.6}%`, y: base - tall, height: tall, rx: 2 },
      svg("title", {}, `${binName(bin)}: ${count(number, "row")}`),
    );
  });
  const tick = (share, anchor) =>
    svg(
      "text",
      { class: "tick", x: `${share * 100}%`, y: base + 20, "text-anchor": anchor },
      percent(share),
    );
  const at = model.threshold * 100;
  const above = results.bins
    .slice(Math.floor(model.threshold * BINS))
    .reduce((sum, number) => sum + number, 0);
  return h(
    "section",
    {},
    h("h3", {}, "Distribution of the scores"),
    h(
      "p",
      { class: "hint" },
      `The tallest bar is ${count(most, "row")}. About ${percent(above / results.scored)} of the scores are at or above the threshold of ${percent(model.threshold)}.`,
    ),
    svg(
      "svg",
      {
        class: "histogram",
        width: "100%",
        height: base + 26,
        role: "img",
        "aria-label": `Histogram of ${count(results.scored, "score")}`,
      },
      bars,
      svg("line", { class: "base", x1: 0, x2: "100%", y1: base, y2: base }),
      svg("line", { class: "threshold", x1: `${at}%`, x2: `${at}%`, y1: 0, y2: base + 4 }),
      tick(0, "start"),
      tick(model.threshold, "middle"),
      tick(1, "end"),
    ),
    h(
      "details",
      {},
      h("summary", {}, "As a table"),
      h(
        "table",
        { class: "data" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, "Score"),
            h("th", { scope: "col", class: "number" }, "Rows"),
          ),
        ),
        h(
          "tbody",
          {},
          results.bins.map((number, bin) =>
            h(
              "tr",
              {},
              h("td", {}, binName(bin)),
              h("td", { class: "number" }, number.toLocaleString("en")),
            ),
          ),
        ),
      ),
    ),
  );
}

const binName = (bin) => `${(bin * 100) / BINS} to ${((bin + 1) * 100) / BINS} %`;

function rejectedView(model, results, state) {
  if (results.rejected === 0) return undefined;
  const counts = state.rejections ?? {};
  const body = h("tbody");
  const show = (code) => {
    const rows = results.shown.filter((row) => !code || row.codes.includes(code));
    body.replaceChildren(
      ...rows.map(({ row, id: own, error }) =>
        h(
          "tr",
          {},
          h("td", { class: "number" }, String(row)),
          h("td", {}, String(own)),
          h("td", { class: "long" }, reasonOf(error)),
        ),
      ),
    );
  };
  const filter = h(
    "select",
    { id: "reason", onchange: () => show(filter.value) },
    h("option", { value: "" }, "All reasons"),
    Object.entries(counts).map(([code, number]) =>
      h("option", { value: code }, `${words(code)} (${number.toLocaleString("en")})`),
    ),
  );
  show("");
  return h(
    "section",
    { class: "stack" },
    h(
      "div",
      { class: "title-row" },
      h("h3", {}, `${count(results.rejected, "rejected row")}`),
      h("label", {}, "Show ", filter),
    ),
    results.rejected > SHOWN &&
      h(
        "p",
        { class: "hint" },
        `The first ${SHOWN} are shown; “Only the rejected rows” has them all.`,
      ),
    h(
      "div",
      { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Rejected rows" },
      h(
        "table",
        { class: "data" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col", class: "number" }, "Row"),
            h("th", { scope: "col" }, `${capital(model.noun)} id`),
            h("th", { scope: "col" }, "Why, and what to do"),
          ),
        ),
        body,
      ),
    ),
  );
}

const words = (code) => capital(code.replaceAll("_", " "));

/** "out_of_range: chol must be …; …" without the codes. */
function reasonOf(error) {
  return error.replace(/(^|; )[a-z_]+: /g, "$1");
}
