// "A file": choose or paste one, check its columns, send it.

import { explain, upload } from "./client.js";
import { alertBox, h, svg } from "./dom.js";
import { match, renames } from "./mapping.js";
import { remember } from "./memory.js";
import { ROWS, Unusable, headersOf, open } from "./source.js";
import { capital, count, list, percent, size } from "./words.js";

const ACCEPTED = ".csv,.tsv,.txt,.json,.jsonl,.ndjson,.gz,.parquet,.xlsx";

export function fileView(model) {
  const content = h("div", { class: "stack" });
  const element = h("div", { ondragover, ondragleave, ondrop, onpaste }, content);
  const drop = dropZone(model, choose);
  let sending = false;
  addEventListener("beforeunload", (event) => sending && event.preventDefault());
  reset();

  function reset(problem) {
    content.replaceChildren(...(problem ? [problem] : []), drop);
  }

  async function choose(file) {
    if (!file || sending) return;
    try {
      const source = await open(file);
      content.replaceChildren(preview(model, source, send, () => reset()));
      content.querySelector("h2").focus();
    } catch (error) {
      if (!(error instanceof Unusable)) throw error;
      reset(alertBox("bad", error.title, error.message));
    }
  }

  async function send(source, pairs, codingChecked) {
    const cancel = new AbortController();
    const progress = progressCard(source, () => cancel.abort());
    const before = [...content.children];
    content.replaceChildren(progress.element);
    sending = true;
    try {
      const query = new URLSearchParams({ include_input: "true", profile: "true" });
      if (!source.rows) query.set("output", "csv"); // this page reads no Parquet
      if (codingChecked) query.set("coding_checked", "true");
      for (const [column, field] of pairs) query.append("rename", `${column}=${field}`);
      // The same key when it is sent again after a lost answer: it stays one batch.
      source.keys ??= {};
      source.keys[query] ??= crypto.getRandomValues(new Uint32Array(4)).join("-");
      const { batch_id: id } = await upload(
        `batches?${query}`,
        source.file,
        { ...headersOf(source), "Idempotency-Key": source.keys[query] },
        progress.show,
        cancel.signal,
      );
      remember(id, source);
      reset();
      location.hash = `batch=${encodeURIComponent(id)}`;
    } catch (error) {
      const gone = error.name === "AbortError";
      const [title, text] = gone ? [] : explain(error);
      content.replaceChildren(...(gone ? [] : [alertBox("bad", title, text)]), ...before);
    } finally {
      sending = false;
    }
  }

  function ondragover(event) {
    event.preventDefault();
    drop.classList.add("over");
  }

  function ondragleave() {
    drop.classList.remove("over");
  }

  function ondrop(event) {
    event.preventDefault();
    drop.classList.remove("over");
    choose(event.dataTransfer.files[0]);
  }

  function onpaste(event) {
    if (event.clipboardData.files.length) choose(event.clipboardData.files[0]);
  }

  return { element };
}

function dropZone(model, choose) {
  const input = h("input", {
    type: "file",
    accept: ACCEPTED,
    class: "unseen",
    tabIndex: -1,
    "aria-label": "File",
    onchange: () => choose(input.files[0]).then(() => (input.value = "")),
  });
  const paste = pasteBox(choose);
  return h(
    "div",
    { class: "drop" },
    svg(
      "svg",
      {
        class: "icon",
        width: 44,
        height: 44,
        viewBox: "0 0 24 24",
        fill: "none",
        stroke: "currentColor",
        "stroke-width": 1.5,
        "stroke-linecap": "round",
        "stroke-linejoin": "round",
        "aria-hidden": "true",
      },
      svg("path", { d: "M4 15v4a1 1 0 0 0 1 1h14a1 1 0 0 0 1-1v-4M12 15V4M8 8l4-4 4 4" }),
    ),
    h("h2", {}, `Drop a file of ${model.nouns} here`),
    h(
      "p",
      { class: "hint" },
      "CSV with a header line, a JSON array or JSON lines, also packed with gzip; Parquet or an Excel workbook.",
    ),
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", onclick: () => input.click() }, "Choose a file"),
      h(
        "button",
        { type: "button", class: "quiet", onclick: () => paste.open() },
        "Paste from a spreadsheet",
      ),
      h(
        "a",
        { class: "button quiet", href: "template.csv", download: "template.csv" },
        "Download a template",
      ),
      h(
        "a",
        { class: "button quiet", href: "template.xlsx", download: "template.xlsx" },
        "as a workbook",
      ),
    ),
    input,
    paste.element,
  );
}

function pasteBox(choose) {
  const text = h("textarea", {
    id: "pasted",
    rows: 8,
    placeholder: "Copy the cells with their header line, then paste them here.",
  });
  const use = () => text.value.trim() && choose(new File([text.value], "pasted.csv"));
  const element = h(
    "div",
    { hidden: true, class: "paste" },
    h("label", { for: "pasted" }, "Cells from a spreadsheet"),
    text,
    h("div", { class: "buttons" }, h("button", { type: "button", onclick: use }, "Preview")),
  );
  const show = () => {
    element.hidden = false;
    text.focus();
  };
  return { element, open: show };
}

function progressCard(source, cancel) {
  const fill = svg("rect", { class: "fill", width: "0%", height: 10 });
  const text = h("p", { role: "status" }, "Sending …");
  const element = h(
    "div",
    { class: "card stack" },
    h("h2", {}, source.name),
    h(
      "div",
      { class: "bar" },
      svg("svg", { width: "100%", height: 10, "aria-hidden": "true" }, fill),
    ),
    text,
    h("button", { type: "button", class: "quiet", onclick: cancel }, "Cancel"),
  );
  const show = (share) => {
    fill.setAttribute("width", `${share * 100}%`);
    text.textContent =
      share < 1 ? `Sent ${percent(share)} of ${size(source.bytes)}` : "Waiting for the answer …";
  };
  return { element, show };
}

/** The first rows with, above each column, its field to confirm or correct. */
function preview(model, source, send, back) {
  const matched = match(source.columns, model.fields, model.record_id);
  const mapping = matched.map(({ field }) => field);
  const told = h("div", { class: "stack" });
  const confirm = h("input", { type: "checkbox", id: "confirm", onchange: check });
  const guesses = matched.filter(({ state }) => state === "near").length;
  const confirmLine = h(
    "label",
    { class: "confirm", hidden: guesses === 0 },
    confirm,
    ` I have checked the ${count(guesses, "column")} marked “guess”.`,
  );
  const vouch = h("input", { type: "checkbox" });
  const options = h(
    "details",
    {},
    h("summary", {}, "Options"),
    h(
      "label",
      { class: "confirm" },
      vouch,
      "The codes in this file are right: turn off the guards against another coding.",
    ),
  );
  const button = h(
    "button",
    {
      type: "button",
      onclick: () => send(source, renames(source.columns, mapping, matched), vouch.checked),
    },
    source.count ? `Score ${count(source.count, "row")}` : "Score this file",
  );

  const choose = (index, field) => {
    mapping[index] = field;
    check();
  };

  function check() {
    if (!source.rows) return;
    const problems = problemsOf(model, mapping);
    const absent = model.fields.filter(
      ({ name, used, required }) => used && !required && !mapping.includes(name),
    );
    const note =
      absent.length > 0 &&
      h(
        "p",
        { class: "hint" },
        `Not in this file, so unknown: ${list(absent.map(({ title }) => title))}.`,
      );
    told.replaceChildren(
      ...problems.map((text) => alertBox("attention", "The columns do not match yet", text)),
      ...(note ? [note] : []),
    );
    button.disabled = problems.length > 0 || (guesses > 0 && !confirm.checked);
  }

  const element = h(
    "div",
    { class: "card stack" },
    h(
      "div",
      { class: "title-row" },
      h("h2", { tabIndex: -1 }, source.name),
      h("button", { type: "button", class: "quiet", onclick: back }, "Choose another"),
    ),
    facts(source),
    source.rows
      ? previewTable(model, source, matched, choose)
      : h("p", { class: "hint" }, "There is no preview of this file. The worker reads its columns by name."),
    told,
    confirmLine,
    options,
    h("div", { class: "buttons" }, button),
  );
  check();
  return element;
}

function facts(source) {
  const parts = [
    size(source.bytes),
    source.rows &&
      (source.count === undefined ? `first ${ROWS} rows shown` : count(source.count, "row")),
    source.encoding && source.encoding + (source.bom ? " with byte order mark" : ""),
    source.separatorName && `separated by ${source.separatorName}`,
    source.separatorName && `decimal ${source.decimal === "," ? "comma" : "point"}`,
  ];
  return h(
    "p",
    { class: "facts" },
    parts.filter(Boolean).map((text) => h("span", {}, text)),
  );
}

function problemsOf(model, mapping) {
  const titleOf = (name) => model.fields.find((field) => field.name === name)?.title ?? name;
  const twice = [
    ...new Set(mapping.filter((name, index) => name && mapping.indexOf(name) !== index)),
  ];
  const lacking = model.fields.filter(({ name, required }) => required && !mapping.includes(name));
  return [
    ...twice.map((name) => `Two columns are ${titleOf(name)}. Choose one of them.`),
    ...lacking.map(
      ({ title }) =>
        `No column is ${title}, which every ${model.noun} needs. Choose its column above.`,
    ),
  ];
}

function previewTable(model, source, matched, choose) {
  const options = [
    ["", "Ignore"],
    [model.record_id, `${capital(model.noun)} id`],
    ...model.fields.map(({ name, title }) => [name, title]),
  ];
  const header = (column, index) => {
    const { field, state } = matched[index];
    const mark = h(
      "span",
      { class: "state" },
      { exact: "recognised", near: "guess", none: "ignored" }[state],
    );
    const select = h(
      "select",
      {
        "aria-label": `Field of the column ${column}`,
        onchange: () => {
          cell.className = select.value ? "exact" : "ignored";
          mark.textContent = select.value ? "chosen" : "ignored";
          choose(index, select.value);
        },
      },
      options.map(([value, title]) => h("option", { value, selected: value === field }, title)),
    );
    const cell = h(
      "th",
      { scope: "col", class: state === "none" ? "ignored" : state },
      column,
      select,
      mark,
    );
    return cell;
  };
  return h(
    "div",
    { class: "scroll", tabIndex: 0, role: "region", "aria-label": "First rows of the file" },
    h(
      "table",
      { class: "data" },
      h("thead", {}, h("tr", {}, source.columns.map(header))),
      h(
        "tbody",
        {},
        source.rows.map((row) =>
          h(
            "tr",
            {},
            row.map((cell, index) =>
              h("td", { class: matched[index]?.state === "none" ? "ignored" : undefined }, cell),
            ),
          ),
        ),
      ),
    ),
  );
}
