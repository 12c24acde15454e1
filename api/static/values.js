// Checks what a person types into a field, by the limits of the field table.

const NUMBER = /^[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:e[+-]?\d+)?$/i;

/** The number in a text, with a point or a comma; NaN if it is none. */
export function toNumber(text) {
  const trimmed = text.trim();
  return NUMBER.test(trimmed) ? Number(trimmed.replace(",", ".")) : NaN;
}

/** A number as people write it: no exponent, no trailing zeros. */
export function plain(number) {
  return String(Number(number.toPrecision(12)));
}

/** "50 to 700 mg/dl" */
export function range([low, high], unit = "") {
  return `${plain(low)} to ${plain(high)} ${unit}`.trim().replaceAll("-", "−");
}

/**
 * The verdict of a field on a text: `state` is empty, fine, unusual or refused; `value` is what to send;
 * `message` tells what is wrong, and `fix` is a value that would be right.
 */
export function checkNumber(field, text) {
  if (text.trim() === "") {
    return { state: "empty" };
  }
  const value = toNumber(text);
  if (Number.isNaN(value)) {
    return { state: "refused", message: `Enter a number from ${range(field.accept, field.unit)}.` };
  }
  const [low, high] = field.accept;
  if (value < low || value > high) {
    const hint = field.hints.find((one) => one.low <= value && value <= one.high);
    const message = hint ? hint.text : `Must be from ${range(field.accept, field.unit)}.`;
    return { state: "refused", message: sentence(message), fix: fixOf(field, hint, value) };
  }
  if (field.used && (value < field.training[0] || value > field.training[1])) {
    const seen = range(field.training, field.unit);
    return { state: "unusual", value, message: `Outside the range of the training data, ${seen}.` };
  }
  return { state: "fine", value };
}

function fixOf(field, hint, value) {
  if (!hint?.factor) {
    return undefined;
  }
  const fixed = Number((value * hint.factor).toPrecision(3));
  return field.accept[0] <= fixed && fixed <= field.accept[1] ? fixed : undefined;
}

function sentence(text) {
  const closed = /[.!?]$/.test(text) ? text : `${text}.`;
  return closed[0].toUpperCase() + closed.slice(1);
}

/** Required fields first, then the other fields of the model, then those it does not use. */
export function groups(fields) {
  return {
    required: fields.filter((field) => field.required),
    optional: fields.filter((field) => !field.required && field.used),
    unused: fields.filter((field) => !field.required && !field.used),
  };
}
