// Puts figures into words.

/** The states of a batch. */
export const STATES = {
  queued: "Queued",
  running: "Running",
  succeeded: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
};

/** "68 %" on one line; never 0 % or 100 %, since no score is certain. */
export function percent(share) {
  const whole = Math.round(share * 100);
  if (whole <= 0) return share === 0 ? "0\u00a0%" : "<\u00a01\u00a0%";
  if (whole >= 100) return share === 1 ? "100\u00a0%" : ">\u00a099\u00a0%";
  return `${whole}\u00a0%`;
}

/** "1 row", "12,000 rows" */
export function count(number, noun, nouns = `${noun}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? noun : nouns}`;
}

/** "Age and Sex", "Age, Sex and Slope" */
export function list(words) {
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** "13 kB" */
export function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  const power = Math.min(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), 3);
  const shown = bytes / 1000 ** power;
  return `${shown < 10 && power ? shown.toFixed(1) : Math.round(shown)} ${units[power]}`;
}

/** "40 s", "5 min", "3 h" */
export function duration(seconds) {
  if (seconds < 120) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

/** First letter in upper case. */
export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/**
 * The study's group of similar scores for the set of fields that were given.
 * Undefined: the study was not evaluated with exactly these fields.
 */
export function similar(evaluated, given, probability) {
  const names = new Set(given);
  const set = (evaluated ?? []).find(
    ({ fields }) => fields.length === names.size && fields.every((name) => names.has(name)),
  );
  return set?.groups.find(({ high }) => probability < high) ?? set?.groups.at(-1);
}
