import assert from "node:assert/strict";
import { test } from "node:test";

import { Results, SHOWN, codes } from "../../api/static/results.js";

const HEADER = "row,patient_id,probability,prediction,warnings,error,input_id,input_age\n";
const CSV = `${HEADER}1,A,0.05,0,,,A,63
2,B,,,,"out_of_range: age must be from 18 to 110 years; missing_required: sex is required",B,630
3,,1,1,age outside training range 29 to 77 years,,,80
`;

function read(format, text, cut = text.length) {
  const results = new Results(format);
  const rejected = [
    ...results.push(text.slice(0, cut)),
    ...results.push(text.slice(cut)),
    ...results.end(),
  ];
  return { results, rejected };
}

test("rows are counted and put into bins", () => {
  const { results } = read("csv", CSV);

  assert.deepEqual([results.rows, results.scored, results.rejected, results.warned], [3, 2, 1, 1]);
  assert.equal(results.bins[1], 1);
  assert.equal(results.bins.at(-1), 1);
});

test("a rejected row comes with its inputs and the reason", () => {
  const { results, rejected } = read("csv", CSV);

  assert.deepEqual(results.inputNames, ["id", "age", "error"]);
  assert.deepEqual(rejected[0].slice(0, 2), ["B", "630"]);
  assert.deepEqual(results.shown[0].codes, ["out_of_range", "missing_required"]);
  assert.equal(results.shown[0].row, "2");
});

test("without the inputs a rejected row has its number and name", () => {
  const { results, rejected } = read(
    "csv",
    'row,patient_id,probability,prediction,warnings,error\n1,A,,,,"not_text: x"\n',
  );

  assert.deepEqual(results.inputNames, ["row", "patient_id", "error"]);
  assert.deepEqual(rejected, [["1", "A", "not_text: x"]]);
});

test("the counts are the same wherever the text is cut", () => {
  for (let cut = 0; cut <= CSV.length; cut += 7) {
    const { results } = read("csv", CSV, cut);
    assert.deepEqual([results.rows, results.scored, results.rejected], [3, 2, 1]);
  }
});

test("scores of a model without a probability are counted", () => {
  const { results } = read(
    "csv",
    'row,id,prediction,warnings,error\n1,A,206.1,,\n2,B,,,"out_of_range: x"\n',
  );

  assert.deepEqual([results.rows, results.scored, results.rejected], [2, 1, 1]);
});

test("JSON lines are read, too", () => {
  const lines = [
    {
      row: 1,
      patient_id: "A",
      probability: 0.5,
      prediction: 1,
      warnings: null,
      error: null,
      input_age: 63,
    },
    {
      row: 2,
      patient_id: null,
      probability: null,
      prediction: null,
      warnings: null,
      error: "out_of_range: age",
      input_age: 630,
    },
  ];
  const { results, rejected } = read(
    "jsonl",
    `${lines.map((line) => JSON.stringify(line)).join("\n")}\n`,
    30,
  );

  assert.deepEqual([results.rows, results.scored, results.rejected], [2, 1, 1]);
  assert.deepEqual(rejected, ['{"age":630}']);
});

test("only so many rejected rows are kept for the page", () => {
  const row = ",,,,,not_text: x,,\n";
  const { results } = read(
    "csv",
    HEADER + Array.from({ length: SHOWN + 50 }, (_, i) => i + row).join(""),
  );

  assert.equal(results.rejected, SHOWN + 50);
  assert.equal(results.shown.length, SHOWN);
});

test("codes are told from texts that hold colons", () => {
  assert.deepEqual(codes("out_of_range: age must be from 18: hint; not_text: x"), [
    "out_of_range",
    "not_text",
  ]);
});

test("scores between semicolons with decimal commas are read alike", () => {
  const semicolons = HEADER.replaceAll(",", ";") + '1;A;0,05;0;;;A;63\r\n2;B;;;;"x: y";B;630\r\n';
  for (const cut of [1, 3, 4, 20]) {
    const { results, rejected } = read("csv", semicolons, cut);
    assert.equal(results.bins[1], 1);
    assert.deepEqual(rejected, [["B", "630", "x: y"]]);
  }
});
