import assert from "node:assert/strict";
import { test } from "node:test";

import { count, duration, list, percent, similar, size } from "../../api/static/words.js";

const plain = (text) => text.replaceAll("\u00a0", " ");

test("a share is whole percent and never certain", () => {
  assert.equal(plain(percent(0.274)), "27 %");
  assert.equal(plain(percent(0.0004)), "< 1 %");
  assert.equal(plain(percent(0.9996)), "> 99 %");
});

test("one row, two rows", () => {
  assert.equal(count(1, "row"), "1 row");
  assert.equal(count(12000, "row"), "12,000 rows");
  assert.equal(count(2, "entry", "entries"), "2 entries");
});

test("words are joined as people do", () => {
  assert.equal(list([]), "");
  assert.equal(list(["Age"]), "Age");
  assert.equal(list(["Age", "Sex", "Slope"]), "Age, Sex and Slope");
});

test("sizes and times are short", () => {
  assert.equal(size(0), "0 bytes");
  assert.equal(size(1300), "1.3 kB");
  assert.equal(size(64e6), "64 MB");
  assert.equal(duration(40), "40 s");
  assert.equal(duration(600), "10 min");
  assert.equal(duration(3 * 86400), "3 d");
});

const GROUPS = [
  { low: 0, high: 0.2, n: 60 },
  { low: 0.2, high: 1, n: 61 },
];
const EVALUATED = [{ title: "two", fields: ["a", "b"], groups: GROUPS }];

test("similar scores are those of the same set of fields, in any order", () => {
  assert.equal(similar(EVALUATED, ["b", "a"], 0.1).n, 60);
  assert.equal(similar(EVALUATED, ["a", "b"], 0.2).n, 61);
  assert.equal(similar(EVALUATED, ["a", "b"], 1).n, 61);
});

test("another set of fields has no similar scores", () => {
  assert.equal(similar(EVALUATED, ["a"], 0.1), undefined);
  assert.equal(similar(EVALUATED, ["a", "b", "c"], 0.1), undefined);
  assert.equal(similar(undefined, ["a"], 0.1), undefined);
});
