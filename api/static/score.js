// The view of a score: the probability, the study's figures, what each field contributes.

import { h, svg } from "./dom.js";
import { inWords } from "./form.js";
import { hasProbability, inBrief, shares } from "./kinds.js";
import { count, list, percent, similar } from "./words.js";

/** Everything that is shown of one score. */
export function scoreView(model, record, score) {
  if (!hasProbability(model)) {
    return h(
      "div",
      {},
      h("h2", { class: "label" }, model.title ? heading(model.title) : "Prediction"),
      h("p", { class: "probability" }, inBrief(model, score)),
      shares(model, score),
      score.warnings.map((text) => h("p", { class: "warning" }, titled(model, text))),
    );
  }
  const group = similar(model.figures.similar, given(model, record), score.probability);
  return h(
    "div",
    {},
    h("h2", { class: "label" }, model.title ? heading(model.title) : "Probability"),
    h("p", { class: "probability" }, percent(score.probability)),
    h("p", { class: "verdict" }, verdict(model, score)),
    scale(model, score.probability, group),
    meaning(model, group),
    score.warnings.map((text) => h("p", { class: "warning" }, titled(model, text))),
    score.explanation && contributions(model, record, score.explanation),
  );
}

const heading = (title) => title.replace(/\s*\(.*\)$/, "");

// A warning begins with the name of its field.
function titled(model, warning) {
  return warning.replace(
    /^\S+/,
    (name) => model.fields.find((field) => field.name === name)?.title ?? name,
  );
}

function given(model, record) {
  return model.fields.filter(({ used, name }) => used && name in record).map(({ name }) => name);
}

function verdict(model, score) {
  const side = score.prediction ? "At or above" : "Below";
  return `${side} the threshold of ${percent(model.threshold)}`;
}

/** The probability on a bar, with the threshold and, below, the interval of similar cases. */
function scale(model, probability, group) {
  const x = (share) => share * 100;
  const threshold = x(model.threshold);
  const edges = (model.figures.thresholds ?? []).map((one) => one.threshold);
  const tick = (share) =>
    svg("line", { class: "edge", x1: `${x(share)}%`, x2: `${x(share)}%`, y1: 18, y2: 34 });
  return h(
    "div",
    { class: "scale" },
    svg(
      "svg",
      {
        width: "100%",
        height: 66,
        role: "img",
        "aria-label": scaleInWords(model, probability, group),
      },
      svg("rect", { class: "track", x: 0, y: 18, width: "100%", height: 16, rx: 8 }),
      svg("rect", {
        class: "fill",
        x: 0,
        y: 18,
        width: `${Math.max(x(probability), 1.5)}%`,
        height: 16,
        rx: 8,
      }),
      edges.filter((edge) => edge !== model.threshold).map(tick),
      svg("line", { class: "threshold", x1: `${threshold}%`, x2: `${threshold}%`, y1: 12, y2: 40 }),
      svg(
        "text",
        { class: "tick", x: `${threshold}%`, y: 9, "text-anchor": "middle" },
        `threshold ${percent(model.threshold)}`,
      ),
      group && [
        svg("line", {
          class: "interval",
          x1: `${x(group.interval[0])}%`,
          x2: `${x(group.interval[1])}%`,
          y1: 46,
          y2: 46,
        }),
        svg("circle", { class: "observed", cx: `${x(group.observed)}%`, cy: 46, r: 4.5 }),
      ],
      svg("text", { class: "tick", x: 0, y: 64 }, "0 %"),
      svg("text", { class: "tick", x: "100%", y: 64, "text-anchor": "end" }, "100 %"),
      group &&
        svg(
          "text",
          { class: "tick", x: "50%", y: 64, "text-anchor": "middle" },
          "● observed in the study, 95\u00a0% interval",
        ),
    ),
  );
}

function scaleInWords(model, probability, group) {
  const main = `${percent(probability)} on a scale to 100 %, threshold ${percent(model.threshold)}`;
  return group ? `${main}; observed in the study ${percent(group.observed)}` : main;
}

function meaning(model, group) {
  const sets = model.figures.similar ?? [];
  if (group) {
    const [low, high] = group.interval;
    return h(
      "div",
      { class: "meaning" },
      h("h3", {}, "What it means"),
      h(
        "p",
        {},
        `Of ${count(group.n, `study ${model.noun}`, `study ${model.nouns}`)} with a similar score (${percent(group.low)} to ${percent(group.high)}), `,
        h("strong", {}, `${group.positive} had ${model.outcome}`),
        `: ${percent(group.observed)}, 95\u00a0% interval ${percent(low)} to ${percent(high)}.`,
      ),
    );
  }
  const text = sets.length
    ? `The study has no figures for exactly these fields, so it is not known how many ${model.nouns} with a similar score had ${model.outcome}. It has them for ${list(sets.map(({ title }) => `“${title}”`))}.`
    : `This model comes without figures that say how many ${model.nouns} with a similar score had ${model.outcome}.`;
  return h("div", { class: "meaning" }, h("h3", {}, "What it means"), h("p", {}, text));
}

/** A table whose middle column is drawn: a bar to the right raises the score, to the left lowers it. */
function contributions(model, record, { contributions: parts, unit }) {
  const used = model.fields.filter(({ used: is }) => is);
  const known = used.filter(({ name }) => name in record);
  const absent = used.filter(({ name }) => !(name in record));
  known.sort((one, other) => Math.abs(parts[other.name]) - Math.abs(parts[one.name]));
  const largest = Math.max(0.5, ...known.map(({ name }) => Math.abs(parts[name])));
  const row = (field) =>
    h(
      "tr",
      {},
      h(
        "th",
        { scope: "row" },
        field.title,
        " ",
        h("small", {}, inWords(field, record[field.name])),
      ),
      h("td", { class: "drawn" }, bar(parts[field.name] / largest)),
      h("td", { class: "number" }, signed(parts[field.name])),
    );
  return h(
    "div",
    { class: "contributions" },
    h("h3", {}, "What each field contributes"),
    h(
      "table",
      {},
      h(
        "caption",
        { class: "hint" },
        `To the right raises the probability, to the left lowers it (${unit}).`,
      ),
      h(
        "thead",
        { class: "unseen" },
        h(
          "tr",
          {},
          ["Field", "Drawn", "Contribution"].map((name) => h("th", { scope: "col" }, name)),
        ),
      ),
      h("tbody", {}, known.map(row)),
    ),
    absent.length > 0 &&
      h("p", { class: "absent" }, `Not given: ${list(absent.map(({ title }) => title))}.`),
  );
}

function bar(share) {
  const width = Math.abs(share) * 50;
  return svg(
    "svg",
    { width: "100%", height: 14, "aria-hidden": "true" },
    svg("line", { class: "axis", x1: "50%", x2: "50%", y1: 0, y2: 14 }),
    svg("rect", {
      class: share < 0 ? "lowers" : "raises",
      x: `${share < 0 ? 50 - width : 50}%`,
      y: 2,
      width: `${width}%`,
      height: 10,
      rx: 2,
    }),
  );
}

const signed = (number) => `${number < 0 ? "−" : "+"}${Math.abs(number).toFixed(2)}`;
