import assert from "node:assert/strict";
import { test } from "node:test";

import { fold, likeness, match, renames } from "../../api/static/mapping.js";

const FIELDS = [
  { name: "age", title: "Age", aliases: ["years"], choices: [] },
  {
    name: "sex",
    title: "Sex",
    aliases: ["gender"],
    choices: [
      { code: 0, word: "female" },
      { code: 1, word: "male" },
    ],
  },
  { name: "chol", title: "Serum cholesterol", aliases: ["cholesterol"], choices: [] },
  { name: "cp", title: "Chest pain type", aliases: ["chest_pain_type"], choices: [] },
];
const matched = (columns) =>
  match(columns, FIELDS, "patient_id").map(({ field, state }) => `${state} ${field}`.trim());

test("names are compared without brackets, case, accents and separators", () => {
  assert.equal(fold("Chest pain (0-3)"), "chest_pain");
  assert.equal(fold("ChestPainType"), "chest_pain_type");
  assert.equal(fold(" Größe [cm] "), "gro_e");
});

test("a field's own name is exact, in any case", () => {
  assert.deepEqual(matched(["patient_id", "AGE", " sex "]), [
    "exact patient_id",
    "exact age",
    "exact sex",
  ]);
});

test("aliases, titles and near misses are guesses", () => {
  assert.deepEqual(
    matched(["Patient ID", "Gender", "Cholesterol (mg/dl)", "Chest Pain Type", "cholesterole"]),
    ["near patient_id", "near sex", "near chol", "near cp", "none"],
  );
  assert.deepEqual(matched(["cholesterole"]), ["near chol"]);
});

test("a name that is like none is left alone", () => {
  assert.deepEqual(matched(["ward", "note", "cpx", "image"]), ["none", "none", "none", "none"]);
});

test("no field is given to two columns, and the exact name wins", () => {
  assert.deepEqual(matched(["Gender", "sex"]), ["none", "exact sex"]);
});

const none = { state: "none" };

test("only columns with another name are renamed", () => {
  const columns = ["age", "Gender", "note", "CHOL"];

  assert.deepEqual(renames(columns, ["age", "sex", "", "chol"], [none, none, none, none]), [
    ["Gender", "sex"],
  ]);
});

test("a guess that a person set to be ignored gets a name that is like no field", () => {
  const matched = [{ state: "exact" }, { state: "near" }, none];

  assert.deepEqual(renames(["age", "Cholesterol", "note"], ["age", "", ""], matched), [
    ["Cholesterol", "ignored_2"],
  ]);
});

test("likeness goes from 0 to 1", () => {
  assert.equal(likeness("abc", "abc"), 1);
  assert.equal(likeness("abc", "xyz"), 0);
  assert.equal(likeness("", ""), 1);
});
