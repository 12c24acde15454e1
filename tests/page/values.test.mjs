import assert from "node:assert/strict";
import { test } from "node:test";

import { checkNumber, groups, toNumber } from "../../api/static/values.js";

const CHOL = {
  name: "chol",
  title: "Serum cholesterol",
  unit: "mg/dl",
  accept: [50, 700],
  training: [126, 564],
  used: true,
  hints: [
    { low: 0, high: 0, text: "0 does not mean missing" },
    { low: 1, high: 20, text: "looks like mmol/l", factor: 38.67 },
  ],
};

test("a number is read with a point or a comma", () => {
  assert.equal(toNumber(" 2,3 "), 2.3);
  assert.equal(toNumber("2.3"), 2.3);
  assert.equal(toNumber("-0,5"), -0.5);
  assert.equal(toNumber("1e2"), 100);
});

test("other texts are no numbers", () => {
  for (const text of ["", "abc", "1,2,3", "1.234,5", "0x10", "Infinity", "12 kg", "1_000"]) {
    assert.ok(Number.isNaN(toNumber(text)), text);
  }
});

test("a value within the training range is fine", () => {
  assert.deepEqual(checkNumber(CHOL, "233"), { state: "fine", value: 233 });
});

test("an empty text is not known", () => {
  assert.deepEqual(checkNumber(CHOL, "  "), { state: "empty" });
});

test("a value outside the training range is sent, with a word of caution", () => {
  const answer = checkNumber(CHOL, "600");

  assert.equal(answer.state, "unusual");
  assert.equal(answer.value, 600);
  assert.match(answer.message, /126 to 564 mg\/dl/);
});

test("a field that the model does not use has no training range to leave", () => {
  assert.equal(checkNumber({ ...CHOL, used: false }, "600").state, "fine");
});

test("a value outside the accepted range is refused with the limits", () => {
  const answer = checkNumber(CHOL, "900");

  assert.equal(answer.state, "refused");
  assert.match(answer.message, /50 to 700 mg\/dl/);
  assert.equal(answer.fix, undefined);
});

test("a value in another unit comes with what it is in the right one", () => {
  const answer = checkNumber(CHOL, "5,2");

  assert.equal(answer.state, "refused");
  assert.equal(answer.message, "Looks like mmol/l.");
  assert.equal(answer.fix, 201);
});

test("no value is offered that would be refused, too", () => {
  assert.equal(checkNumber(CHOL, "1").fix, undefined);
  assert.equal(checkNumber(CHOL, "0").fix, undefined);
});

test("required fields come first and unused ones last", () => {
  const fields = [
    { name: "unused", required: false, used: false },
    { name: "optional", required: false, used: true },
    { name: "required", required: true, used: true },
  ];

  const { required, optional, unused } = groups(fields);

  assert.deepEqual(
    [required, optional, unused].map(([field]) => field.name),
    ["required", "optional", "unused"],
  );
});
