import assert from "node:assert/strict";
import { test } from "node:test";

import { fold, likeness, match, renames, template } from "../../api/static/mapping.js";

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

test("only columns with another name are renamed", () => {
  assert.deepEqual(renames(["age", "Gender", "note", "CHOL"], ["age", "sex", "", "chol"]), [
    ["Gender", "sex"],
  ]);
});

test("likeness goes from 0 to 1", () => {
  assert.equal(likeness("abc", "abc"), 1);
  assert.equal(likeness("abc", "xyz"), 0);
  assert.equal(likeness("", ""), 1);
});

test("a template has every field and one row that is right", () => {
  const [header, row] = template(FIELDS, "patient_id", { age: 63, sex: 1 });

  assert.deepEqual(header, ["patient_id", "age", "sex", "chol", "cp"]);
  assert.deepEqual(row, ["example-1", "63", "male", "", ""]);
});
