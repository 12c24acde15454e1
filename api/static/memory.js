// Batches that this tab sent, kept so that a reload loses nothing.

const key = (id) => `batch:${id}`;

/** Keep the name and form of the file that became this batch. */
export function remember(id, { name, count, decimal, bom, format }) {
  const kept = { name, count, decimal, bom, format, sent: Date.now() };
  sessionStorage.setItem(key(id), JSON.stringify(kept));
}

/** The same; for a file of another tab, the usual form in the browser's language. */
export function recall(id) {
  const kept = sessionStorage.getItem(key(id));
  if (kept) return JSON.parse(kept);
  return { decimal: (1.5).toLocaleString()[1] };
}
