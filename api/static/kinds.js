// The answers of models by their kind: what the page shows of a score.

import { h } from "./dom.js";
import { percent } from "./words.js";

/** A score in a word or two. */
export function inBrief(model, score) {
  if (model.kind === "classes") return score.prediction;
  if (model.kind === "value") return `${number(score.prediction)} ${model.unit}`.trim();
  return percent(score.probability);
}

/** Below the answer: the probability of each class. */
export function shares(model, score) {
  if (model.kind !== "classes") return undefined;
  const row = (name) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, name),
      h("td", { class: "number" }, percent(score[`probability_${name}`])),
    );
  return h("table", { class: "data" }, h("tbody", {}, model.classes.map(row)));
}

/** The member that code of a caller prints. */
export const mainMember = (model) => (hasProbability(model) ? "probability" : "prediction");

export const hasProbability = (model) => (model.kind ?? "probability") === "probability";

const number = (value) => value.toLocaleString("en", { maximumSignificantDigits: 6 });
