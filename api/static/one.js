// "One record": the form and, beside it, what the model says.

import { Refused, call, explain, hasKey } from "./client.js";
import { codeFor } from "./code.js";
import { alertBox, h } from "./dom.js";
import { RecordForm } from "./form.js";
import { inBrief, mainMember } from "./kinds.js";
import { scoreView } from "./score.js";
import { list } from "./words.js";

const PAUSE = 300; // ms after the last change until the score is asked for

export function oneView(model) {
  const result = h("div", { class: "result" });
  const spoken = h("p", { class: "unseen", role: "status" });
  const peek = h("a", { class: "peek", href: "#result", hidden: true, onclick: toResult });
  const code = codeFor(mainMember(model));
  const form = new RecordForm(model, () => changed());
  let timer;
  let running = new AbortController();
  let explains = true;

  function toResult(event) {
    event.preventDefault();
    result.scrollIntoView({ behavior: "smooth" });
  }

  function changed() {
    clearTimeout(timer);
    running.abort();
    result.classList.add("old");
    timer = setTimeout(update, PAUSE);
  }

  async function update() {
    const { record, lacking, refused } = form.read();
    code.show(record, hasKey());
    if (refused || lacking.length) {
      show(waiting(model, lacking, refused));
      return;
    }
    running = new AbortController();
    try {
      const score = await predict(record, running.signal);
      show(scoreView(model, record, score), inBrief(model, score));
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error instanceof Refused) form.complain(error.problem.errors ?? []);
      const [title, text] = explain(error);
      const again = h("button", { type: "button", class: "quiet", onclick: update }, "Try again");
      show(alertBox("bad", title, text, h("p", {}, again)));
    }
  }

  async function predict(record, signal) {
    const request = {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(record),
      signal,
    };
    try {
      return await (await call(`predict${explains ? "?explain=true" : ""}`, request)).json();
    } catch (error) {
      if (!explains || error.problem?.code !== "not_explained") throw error;
      explains = false;
      return predict(record, signal);
    }
  }

  function show(content, score) {
    result.classList.remove("old");
    result.replaceChildren(content);
    peek.hidden = score === undefined;
    peek.replaceChildren(
      ...(score ? [h("strong", {}, score), h("span", {}, "See what it means")] : []),
    );
    spoken.textContent = score ? `Score: ${score}` : "";
  }

  const fill = (record) => {
    form.fill(record);
    changed();
  };
  const element = h(
    "div",
    { class: "split" },
    h("div", { class: "card" }, examplesOf(model, fill), form.element),
    h(
      "div",
      { class: "side" },
      h("div", { class: "card", id: "result" }, result, spoken),
      code.element,
    ),
    peek,
  );
  update();
  return { element };
}

function examplesOf(model, fill) {
  const chip = (title, record) =>
    h("button", { type: "button", class: "chip", onclick: () => fill(record) }, title);
  return h(
    "div",
    { class: "examples" },
    model.examples?.length && h("span", { class: "hint" }, "Examples"),
    (model.examples ?? []).map(({ title, record }) => chip(title, record)),
    h("button", { type: "button", class: "chip plain", onclick: () => fill({}) }, "Clear"),
  );
}

function waiting(model, lacking, refused) {
  const text = refused
    ? "Correct the values marked in red to see a score."
    : `Enter ${list(lacking.map(({ title }) => title.toLowerCase()))} to see a score, or try one of the examples.`;
  return h(
    "div",
    { class: "waiting" },
    h("p", { class: "no-score", "aria-hidden": "true" }, "–"),
    h("p", {}, text),
  );
}
