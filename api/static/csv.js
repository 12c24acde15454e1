// Reads and writes separated text: encoding, separator, decimal sign, rows.

const SEPARATORS = [",", ";", "\t", "|"];
const NAMES = { ",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe" };
const SNIFFED = 50; // rows that decide on separator and decimal sign

/** The text of a file's first bytes, with the name of its encoding and whether it has a mark. */
export function decode(bytes, { complete = true } = {}) {
  const starts = (...mark) => mark.every((byte, i) => bytes[i] === byte);
  if (starts(0xff, 0xfe)) return decoded("utf-16le", bytes, "UTF-16", true);
  if (starts(0xfe, 0xff)) return decoded("utf-16be", bytes, "UTF-16", true);
  const bom = starts(0xef, 0xbb, 0xbf);
  try {
    // A file's beginning may end within a character.
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: !complete });
    return { text, label: "UTF-8", bom };
  } catch {
    return decoded("windows-1252", bytes, "Windows-1252", false);
  }
}

function decoded(encoding, bytes, label, bom) {
  return { text: new TextDecoder(encoding).decode(bytes), label, bom };
}

/** The type of a file that is not text, by its first bytes. */
export function binaryKind(bytes) {
  const head = String.fromCharCode(...bytes.slice(0, 4));
  if (head.startsWith("PK")) return "an Excel workbook or a ZIP file";
  if (head === "\xd0\xcf\x11\xe0") return "an old Excel workbook";
  if (head === "PAR1") return "a Parquet file";
  if (head.startsWith("\x1f\x8b")) return "a gzip file";
  if (head === "%PDF") return "a PDF";
  return undefined;
}

/** Collects rows of separated text that comes in pieces. */
export class RowReader {
  constructor(separator) {
    this.separator = separator;
    this.row = [];
    this.cell = "";
    this.state = "start"; // start, plain, quoted, closed
    this.afterReturn = false;
  }

  /** The rows that end within this piece. Blank lines are no rows. */
  push(text) {
    const rows = [];
    for (const character of text) {
      if (this.state === "quoted") {
        if (character === '"') this.state = "closed";
        else this.cell += character;
        continue;
      }
      const second = this.afterReturn && character === "\n";
      this.afterReturn = character === "\r";
      if (second) continue;
      if (character === '"' && this.state === "start") {
        this.state = "quoted";
      } else if (character === '"' && this.state === "closed") {
        this.cell += '"';
        this.state = "quoted";
      } else if (character === this.separator) {
        this.endCell();
      } else if (character === "\n" || character === "\r") {
        this.endRow(rows);
      } else {
        this.cell += character;
        this.state = "plain";
      }
    }
    return rows;
  }

  /** The last row, if no line end closes it. */
  end() {
    const rows = [];
    if (this.row.length || this.cell || this.state !== "start") this.endRow(rows);
    return rows;
  }

  endCell() {
    this.row.push(this.cell);
    this.cell = "";
    this.state = "start";
  }

  endRow(rows) {
    const blank = this.row.length === 0 && this.cell.trim() === "";
    this.endCell();
    if (!blank) rows.push(this.row);
    this.row = [];
  }
}

/** All rows of a text. */
export function parse(text, separator) {
  const reader = new RowReader(separator);
  return [...reader.push(text), ...reader.end()];
}

/** Separator and decimal sign of a text, with the separator's name. */
export function sniff(text) {
  const separator = sniffSeparator(text);
  const cells = parse(text, separator).slice(1, SNIFFED).flat();
  const commas = cells.filter((cell) => /^\s*[+-]?\d*,\d+\s*$/.test(cell)).length;
  const points = cells.filter((cell) => /^\s*[+-]?\d*\.\d+\s*$/.test(cell)).length;
  const decimal = separator !== "," && commas > points ? "," : ".";
  return { separator, separatorName: NAMES[separator], decimal };
}

function sniffSeparator(text) {
  const named = /^sep=(.)\r?\n/i.exec(text)?.[1];
  if (SEPARATORS.includes(named)) return named;
  let best = { separator: ",", score: 0 };
  for (const separator of SEPARATORS) {
    const rows = parse(text, separator).slice(0, SNIFFED);
    const width = rows[0]?.length ?? 0;
    if (width < 2) continue;
    const alike = rows.filter((row) => row.length === width).length / rows.length;
    const score = alike * 100 + Math.min(width, 50);
    if (score > best.score) best = { separator, score };
  }
  return best.separator;
}

/** Rows as separated text; cells are quoted where they must be. */
export function serialise(rows, separator = ",") {
  const special = new RegExp(`["\\r\\n${separator === "|" ? "\\|" : separator}]`);
  const quoted = (cell) => (special.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  return rows
    .map((row) => row.map((cell) => quoted(String(cell))).join(separator) + "\r\n")
    .join("");
}
