import assert from "node:assert/strict";
import { test } from "node:test";

import { RowReader, binaryKind, decode, parse, serialise, sniff } from "../../api/static/csv.js";

const bytes = (text) => new TextEncoder().encode(text);

test("quoted cells may hold separators, quotes and line ends", () => {
  const text = 'id,note\r\n1,"a, ""b""\nc"\r\n2,plain';

  assert.deepEqual(parse(text, ","), [
    ["id", "note"],
    ["1", 'a, "b"\nc'],
    ["2", "plain"],
  ]);
});

test("blank lines are no rows, empty cells are cells", () => {
  assert.deepEqual(parse("a,b\n\n,\n \n1,\n", ","), [
    ["a", "b"],
    ["", ""],
    ["1", ""],
  ]);
});

test("the last empty cell of a file without a last line end is kept", () => {
  assert.deepEqual(parse("a,b\n1,", ","), [
    ["a", "b"],
    ["1", ""],
  ]);
  assert.deepEqual(parse('a,b\n1,""', ","), [
    ["a", "b"],
    ["1", ""],
  ]);
});

test("rows are the same wherever a text is cut into pieces", () => {
  const text = 'a,b\r\n"x\r\ny","1""2"\r\n\r\nlast,""';
  const whole = parse(text, ",");

  for (let cut = 0; cut <= text.length; cut++) {
    const reader = new RowReader(",");
    const rows = [
      ...reader.push(text.slice(0, cut)),
      ...reader.push(text.slice(cut)),
      ...reader.end(),
    ];
    assert.deepEqual(rows, whole, `cut at ${cut}`);
  }
});

test("what is written can be read again", () => {
  const rows = [
    ["a", 'b "c"', "d;e"],
    ["1,5", "x\ny", ""],
  ];

  for (const separator of [",", ";", "\t", "|"]) {
    assert.deepEqual(parse(serialise(rows, separator), separator), rows);
  }
});

test("separator and decimal sign are found", () => {
  const found = (text) => {
    const { separator, decimal } = sniff(text);
    return [separator, decimal];
  };

  assert.deepEqual(found("age,oldpeak\n63,2.3\n41,1.4\n"), [",", "."]);
  assert.deepEqual(found("age;oldpeak\n63;2,3\n41;1,4\n"), [";", ","]);
  assert.deepEqual(found("age\toldpeak\n63\t2,3\n"), ["\t", ","]);
  assert.deepEqual(found("age|oldpeak\n63|2.3\n"), ["|", "."]);
  assert.deepEqual(found("sep=;\nage;note\n63;a,b,c\n"), [";", "."]);
  assert.deepEqual(found('id;note\n1;"a,b"\n2;"c,d,e"\n'), [";", "."]);
});

test("the encoding is found by its mark, or by what is no UTF-8", () => {
  assert.equal(decode(bytes("größe")).label, "UTF-8");
  assert.deepEqual(
    [decode(bytes("\ufeffage")).bom, decode(bytes("\ufeffage")).text],
    [true, "age"],
  );
  assert.deepEqual(decode(Uint8Array.of(0x47, 0x72, 0xf6, 0xdf, 0x65)).text, "Größe");
  assert.equal(decode(Uint8Array.of(0xff, 0xfe, 0x61, 0x00)).text, "a");
});

test("the beginning of a file may end within a character", () => {
  const head = bytes("größe").slice(0, 3);

  assert.equal(decode(head, { complete: false }).label, "UTF-8");
  assert.equal(decode(head).label, "Windows-1252");
});

test("files without text are named for what they are", () => {
  assert.match(binaryKind(bytes("PK\u0003\u0004")), /Excel/);
  assert.match(binaryKind(bytes("PAR1")), /Parquet/);
  assert.equal(binaryKind(bytes("age,sex")), undefined);
});
