// Which column of a file is which field.

/** A name without brackets, case, accents and separators: "Chest pain (0-3)" is "chest_pain". */
export function fold(name) {
  const bare = name.replace(/\(.*?\)|\[.*?\]/g, " ").replace(/([a-z])([A-Z])/g, "$1_$2");
  const ascii = bare.normalize("NFKD").replace(/[\u0300-\u036f]/g, "");
  return ascii
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "_")
    .replace(/^_+|_+$/g, "");
}

/**
 * For each column its field: `state` is exact (the name is the field's), near (a guess that a
 * person should confirm) or none. No field is given twice.
 */
export function match(columns, fields, idName) {
  const targets = [{ name: idName, aliases: ["id", fold(idName)] }, ...fields];
  const found = columns.map(() => ({ field: "", state: "none" }));
  const taken = new Set();
  const take = (index, name, state) => {
    found[index] = { field: name, state };
    taken.add(name);
  };
  columns.forEach((column, index) => {
    const same = targets.find(({ name }) => name.toLowerCase() === column.trim().toLowerCase());
    if (same && !taken.has(same.name)) take(index, same.name, "exact");
  });
  for (const near of [byAlias, byLikeness]) {
    columns.forEach((column, index) => {
      if (found[index].state !== "none") return;
      const target = near(
        fold(column),
        targets.filter(({ name }) => !taken.has(name)),
      );
      if (target) take(index, target.name, "near");
    });
  }
  return found;
}

function byAlias(name, targets) {
  const bare = (text) => fold(text).replaceAll("_", "");
  const key = name.replaceAll("_", "");
  return targets.find((target) =>
    [target.name, target.title ?? "", ...target.aliases].some((alias) => bare(alias) === key),
  );
}

function byLikeness(name, targets) {
  if (name.length < 4) return undefined;
  return targets.find((target) =>
    [target.name, ...target.aliases].some(
      (alias) =>
        alias.length > 3 &&
        (name.startsWith(`${fold(alias)}_`) || likeness(name, fold(alias)) >= 0.8),
    ),
  );
}

/** 1 for equal texts, 0 for texts that share nothing: 1 - edits / length. */
export function likeness(one, other) {
  let previous = Array.from({ length: other.length + 1 }, (_, i) => i);
  for (let i = 1; i <= one.length; i++) {
    const current = [i];
    for (let j = 1; j <= other.length; j++) {
      const replaced = previous[j - 1] + (one[i - 1] === other[j - 1] ? 0 : 1);
      current.push(Math.min(previous[j] + 1, current[j - 1] + 1, replaced));
    }
    previous = current;
  }
  return 1 - previous[other.length] / Math.max(one.length, other.length, 1);
}

/**
 * The `rename` of a mapping: columns whose field has another name. A column that looks like a field
 * but was set to be ignored gets a name that is like no field, since the API would refuse the file.
 */
export function renames(columns, mapping, matched) {
  return columns
    .map((column, index) => {
      const name =
        mapping[index] || (matched[index].state === "none" ? "" : `ignored_${index + 1}`);
      return [column.trim(), name];
    })
    .filter(([column, name]) => name && name.toLowerCase() !== column.toLowerCase());
}
