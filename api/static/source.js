// A file that a person chose or pasted: its format, its first rows, and the headers to send it with.

import { binaryKind, decode, parse, sniff } from "./csv.js";

const HEAD = 256 * 1024; // bytes that the preview is made from
const WHOLE = 64 * 1024 * 1024; // bytes up to which a file is parsed as a whole
const TYPES = {
  csv: "text/csv",
  json: "application/json",
  jsonl: "application/jsonl",
  parquet: "application/vnd.apache.parquet",
  xlsx: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
};
const BEGINS = { parquet: "PAR1", xlsx: "PK" }; // files that are sent without a preview

export const ROWS = 20; // rows of the preview

/** Something about the file that keeps it from being sent: title and what to do. */
export class Unusable extends Error {
  constructor(title, advice) {
    super(advice);
    this.title = title;
  }
}

/** Reads the beginning of a file. Throws `Unusable`. */
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
    throw new Unusable(`This is ${kind}`, "Save it as .xlsx or CSV, or copy its cells and paste them here.");
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
  };
  if (format === "csv") return { ...source, ...table(text.text, complete) };
  if (text.label !== "UTF-8") throw new Unusable("This file is not UTF-8", "Save it as UTF-8.");
  return { ...source, ...(await records(source, text.text, complete)) };
}

/** A file that only the worker reads. Its result is CSV, in the form that this browser's language uses. */
function unseen(file, format) {
  const decimal = (1.5).toLocaleString()[1];
  return { file, name: file.name, bytes: file.size, packed: false, format, decimal, columns: [] };
}

async function firstBytes(file, packed) {
  const reader = unpacked(packed ? file : file.slice(0, HEAD), packed).getReader();
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
      items = JSON.parse(complete ? text : await new Response(unpacked(source.file, source.packed)).text());
    }
  } catch (error) {
    if (error instanceof Unusable) throw error;
    throw new Unusable("This file is not JSON", "Check that it is complete.");
  }
  if (!Array.isArray(items))
    throw new Unusable("This file is not an array of records", "Send an array: [{…}, {…}].");
  const shown = items.slice(0, ROWS);
  const columns = [...new Set(shown.flatMap((item) => Object.keys(item ?? {})))];
  const rows = shown.map((item) => columns.map((column) => String(item?.[column] ?? "")));
  return {
    columns,
    rows,
    count: complete || source.format === "json" ? items.length : undefined,
    decimal: ".",
  };
}

function unpacked(file, packed) {
  return packed ? file.stream().pipeThrough(new DecompressionStream("gzip")) : file.stream();
}

/** The headers of the upload. The API reads CSV of any encoding and separator. */
export function headersOf({ format, packed }) {
  return { "Content-Type": TYPES[format], ...(packed ? { "Content-Encoding": "gzip" } : {}) };
}
