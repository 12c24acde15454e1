// Reads a file of scores while it arrives: counts, a histogram, the rejected rows.

import { RowReader } from "./csv.js";

export const BINS = 20;
export const SHOWN = 200; // rejected rows on the page
const INPUT = "input_";
const FIRST = "row"; // the first column: after its name comes the separator
const CODE = /(?:^|; )([a-z_]+): /g;

/** The codes in an error text: "out_of_range: …; missing_required: …". */
export function codes(error) {
  return [...new Set(Array.from(error.matchAll(CODE), ([, code]) => code))];
}

/** Sums up rows of scores that come in pieces of text. */
export class Results {
  constructor(format) {
    this.format = format;
    this.reader = undefined; // of CSV, once the separator is known
    this.rest = "";
    this.columns = undefined;
    this.inputNames = []; // header of the rejected rows
    this.rows = 0;
    this.scored = 0;
    this.warned = 0;
    this.rejected = 0;
    this.bins = new Array(BINS).fill(0);
    this.shown = [];
  }

  /** Take in a piece. Returns the rejected rows in it, as inputs with the reason. */
  push(text) {
    if (this.format !== "csv") return this.takeLines(text);
    if (!this.reader) {
      text = this.rest + text;
      this.rest = text;
      if (text.length <= FIRST.length) return [];
      this.reader = new RowReader(text[FIRST.length]);
    }
    return this.takeCsv(this.reader.push(text));
  }

  end() {
    return this.format === "csv" ? this.takeCsv(this.reader?.end() ?? []) : this.takeLines("\n");
  }

  takeCsv(rows) {
    const rejected = [];
    for (const row of rows) {
      if (!this.columns) {
        this.readHeader(row);
        continue;
      }
      const { probability, warnings, error } = this.columns;
      // A model of another kind has no such column.
      const score = row[probability] === "" ? null : Number(row[probability]?.replace(",", "."));
      this.take(row[0], row[1], score, row[warnings], row[error]);
      if (row[error]) rejected.push([...this.inputs.map((column) => row[column]), row[error]]);
    }
    return rejected;
  }

  readHeader(names) {
    const at = (name) => names.indexOf(name);
    this.columns = { probability: at("probability"), warnings: at("warnings"), error: at("error") };
    const inputs = [...names.keys()].filter((column) => names[column].startsWith(INPUT));
    // Where the inputs were not repeated, row and name tell which rows they are.
    this.inputs = inputs.length ? inputs : [0, 1];
    const bare = (name) => (name.startsWith(INPUT) ? name.slice(INPUT.length) : name);
    this.inputNames = [...this.inputs.map((column) => bare(names[column])), "error"];
  }

  takeLines(text) {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop();
    const rejected = [];
    for (const line of lines.filter((one) => one.trim())) {
      const row = JSON.parse(line);
      const [, id] = Object.values(row);
      this.take(row.row, id, row.probability, row.warnings, row.error);
      if (row.error) rejected.push(inputOf(row));
    }
    return rejected;
  }

  take(row, id, probability, warnings, error) {
    this.rows += 1;
    if (warnings?.length) this.warned += 1;
    if (error) {
      this.rejected += 1;
      if (this.shown.length < SHOWN)
        this.shown.push({ row, id: id ?? "", error, codes: codes(error) });
    } else if (probability !== null) {
      this.scored += 1;
      this.bins[Math.min(Math.floor(probability * BINS), BINS - 1)] += 1;
    }
  }
}

function inputOf(row) {
  const inputs = Object.entries(row).filter(([name]) => name.startsWith(INPUT));
  const record = Object.fromEntries(
    inputs.map(([name, value]) => [name.slice(INPUT.length), value]),
  );
  return JSON.stringify(record);
}
