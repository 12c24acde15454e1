// A file that a person chose or pasted: what it is, its first rows, and how to send it.

import { binaryKind, decode, parse, serialise, sniff } from "./csv.js";

const HEAD = 256 * 1024; // bytes that the preview is made from
const WHOLE = 64 * 1024 * 1024; // bytes up to which a file is rewritten or parsed as a whole
const TYPES = {
  csv: "text/csv",
  json: "application/json",
  jsonl: "application/jsonl",
  parquet: "application/vnd.apache.parquet",
  xlsx: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
};
const BEGINS = { parquet: "PAR1", xlsx: "PK" }; // files that are sent without a preview
const SENDABLE = [",", ";"]; // separators that the API reads

export const ROWS = 20; // rows of the preview

/** Something about the file that keeps it from being sent: title and what to do. */
export class Unusable extends Error {
  constructor(title, advice) {
    super(advice);
    this.title = title;
  }
}

/** Looks into a file. Throws `Unusable`. */
export async function open(file) {
  const name = file.name.toLowerCase();
  const packed = name.endsWith(".gz");
  const head = await firstBytes(file, packed);
  if (head.length === 0) throw new Unusable("This file is empty", "Choose another file.");
  const sealed = /\.(parquet|xlsx)$/.exec(name)?.[1];
  if (sealed && String.fromCharCode(...head.slice(0, 4)).startsWith(BEGINS[sealed]))
    return unseen(file, sealed);
  const kind = binaryKind(head);
  if (kind)
    throw new Unusable(`This is ${kind}`, "Save it as CSV, or copy its cells and paste them here.");
  const complete = head.length < HEAD;
  const format = /\.(jsonl|ndjson)(\.gz)?$/.test(name)
    ? "jsonl"
    : /\.json(\.gz)?$/.test(name)
      ? "json"
      : "csv";
  const text = decode(head, { complete });
  const source = {
    file,
    name: file.name,
    bytes: file.size,
    packed,
    format,
    encoding: text.label,
    bom: text.bom,
    decoder: text.encoding,
  };
  if (format !== "csv") return { ...source, ...(await records(source, text.text, complete)) };
  return { ...source, ...table(text.text, complete) };
}

/** A file whose columns only the worker reads. Its result is CSV, as this browser's country has it. */
function unseen(file, format) {
  const decimal = (1.5).toLocaleString()[1];
  return { file, name: file.name, bytes: file.size, packed: false, format, decimal, columns: [] };
}

async function firstBytes(file, packed) {
  const stream = packed
    ? file.stream().pipeThrough(new DecompressionStream("gzip"))
    : file.slice(0, HEAD).stream();
  const reader = stream.getReader();
  const pieces = [];
  let length = 0;
  try {
    while (length < HEAD) {
      const { done, value } = await reader.read();
      if (done) break;
      pieces.push(value);
      length += value.length;
    }
    await reader.cancel();
  } catch {
    const advice = packed
      ? "It is not gzip, or not complete."
      : "It may have been moved or changed.";
    throw new Unusable("This file cannot be read", advice);
  }
  return new Uint8Array(await new Blob(pieces).slice(0, HEAD).arrayBuffer());
}

/** The text without blank lines, comments and the line `sep=` before its header. */
const withoutTop = (text) => text.replace(/^(?:[ \t\r]*\n|#[^\n]*\n|sep=.\r?\n)*/i, "");

function table(text, complete) {
  const dialect = sniff(text);
  const rows = parse(withoutTop(text), dialect.separator);
  if (!complete) rows.pop(); // its end may be missing
  const [columns, ...body] = rows;
  if (!columns)
    throw new Unusable("This file has no rows", "Its first line must name the columns.");
  return {
    ...dialect,
    columns,
    rows: body.slice(0, ROWS),
    count: complete ? body.length : undefined,
    marked: /^sep=/i.test(text),
  };
}

async function records(source, text, complete) {
  let items;
  try {
    if (source.format === "jsonl") {
      const lines = text.split("\n");
      if (!complete) lines.pop();
      items = lines.filter((line) => line.trim()).map((line) => JSON.parse(line));
    } else {
      if (!complete && source.bytes > WHOLE)
        throw new Unusable(
          "This file is too large for its format",
          "Save it as JSON lines or CSV.",
        );
      items = JSON.parse(complete ? text : await wholeText(source));
    }
  } catch (error) {
    if (error instanceof Unusable) throw error;
    throw new Unusable("This file is not JSON", "Check that it is complete.");
  }
  if (!Array.isArray(items))
    throw new Unusable("This file holds no array of records", "Send an array: [{…}, {…}].");
  const shown = items.slice(0, ROWS);
  const columns = [...new Set(shown.flatMap((item) => Object.keys(item ?? {})))];
  const rows = shown.map((item) => columns.map((column) => String(item?.[column] ?? "")));
  return {
    columns,
    rows,
    count: complete || source.format === "json" ? items.length : undefined,
    separator: ",",
    decimal: ".",
  };
}

function unpacked({ file, packed }) {
  return packed ? file.stream().pipeThrough(new DecompressionStream("gzip")) : file.stream();
}

async function wholeText(source) {
  return decode(new Uint8Array(await new Response(unpacked(source)).arrayBuffer())).text;
}

/** The body to send: the file itself if the API reads it, else the same rows in UTF-8. */
export async function body(source) {
  if (source.format in BEGINS) return { content: source.file, headers: headersOf(source, false) };
  const readable =
    source.decoder === "utf-8" &&
    (source.format !== "csv" || (SENDABLE.includes(source.separator) && !source.marked));
  if (readable) return { content: source.file, headers: headersOf(source, source.packed) };
  if (source.bytes > WHOLE) {
    throw new Unusable(
      "This file is too large to convert here",
      "Save it as UTF-8 with commas or semicolons.",
    );
  }
  const text = (await wholeText(source)).replace(/^sep=.\r?\n/i, "");
  const separator = source.decimal === "," ? ";" : ",";
  const content =
    source.format === "csv" ? serialise(parse(text, source.separator), separator) : text;
  return { content: new Blob([content]), headers: headersOf(source, false) };
}

function headersOf({ format }, packed) {
  return { "Content-Type": TYPES[format], ...(packed ? { "Content-Encoding": "gzip" } : {}) };
}
