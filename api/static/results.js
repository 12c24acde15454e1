// Reads a file of scores while it arrives: counts, a histogram, the rejected rows.

import { RowReader, serialise } from "./csv.js";

export const BINS = 20;
export const SHOWN = 200; // rejected rows on the page
const INPUT = "input_";
const CODE = /(?:^|; )([a-z_]+): /g;

/** The codes in an error text: "out_of_range: …; missing_required: …". */
export function codes(error) {
  return [...new Set(Array.from(error.matchAll(CODE), ([, code]) => code))];
}

/** Sums up rows of scores that come in pieces of text. */
export class Results {
  constructor(format) {
    this.format = format;
    this.reader = format === "csv" ? new RowReader(",") : undefined;
    this.rest = "";
    this.names = undefined;
    this.rows = 0;
    this.scored = 0;
    this.warned = 0;
    this.rejected = 0;
    this.bins = new Array(BINS).fill(0);
    this.shown = [];
  }

  /** Take in a piece. Returns the rejected rows in it, as inputs with the reason. */
  push(text) {
    return this.format === "csv" ? this.takeCsv(this.reader.push(text)) : this.takeLines(text);
  }

  end() {
    return this.format === "csv" ? this.takeCsv(this.reader.end()) : this.takeLines("\n");
  }

  takeCsv(rows) {
    const rejected = [];
    for (const row of rows) {
      if (!this.names) {
        this.names = row.map((name) => name.replace(/^\ufeff/, ""));
        this.at = (name) => this.names.indexOf(name);
        this.idAt = 1;
        continue;
      }
      const error = row[this.at("error")];
      const score = row[this.at("probability")];
      this.take(
        row[0],
        row[this.idAt],
        score === "" ? null : Number(score),
        row[this.at("warnings")],
        error,
      );
      if (error) rejected.push([...row.filter((_, i) => this.names[i].startsWith(INPUT)), error]);
    }
    return rejected;
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

  /** Header of the rejected rows: the input's columns, and why. Empty: the inputs are not there. */
  get inputNames() {
    const names = (this.names ?? []).filter((name) => name.startsWith(INPUT));
    return names.length ? [...names.map((name) => name.slice(INPUT.length)), "error"] : [];
  }
}

function inputOf(row) {
  const inputs = Object.entries(row).filter(([name]) => name.startsWith(INPUT));
  const record = Object.fromEntries(
    inputs.map(([name, value]) => [name.slice(INPUT.length), value]),
  );
  return JSON.stringify(record);
}

/** Rows of scores for a spreadsheet: with this separator, decimal sign and byte order mark. */
export class ForExcel {
  constructor({ separator, decimal }) {
    this.reader = new RowReader(",");
    this.separator =
      separator === "," || separator === "|" ? (decimal === "," ? ";" : ",") : separator;
    this.decimal = decimal;
    this.started = false;
  }

  push(text) {
    return this.write(this.reader.push(text));
  }

  end() {
    return this.write(this.reader.end());
  }

  write(rows) {
    let mark = "";
    if (!this.started && rows.length) {
      this.started = true;
      mark = "\ufeff";
      this.score = rows[0].indexOf("probability");
    }
    if (this.decimal === ",") {
      for (const row of rows) row[this.score] = row[this.score].replace(".", ",");
    }
    return mark + serialise(rows, this.separator);
  }
}
