// From what is typed, or stands in a file, to what is sent.

// Texts of a missing value in a file, as in a retrain.
const MISSING = new Set(
  "|#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null".split("|"),
);
const FLAGS = new Map(Object.entries({ true: true, 1: true, false: false, 0: false }));
const POINT = /^[+-]?(\d+|\d{1,3}(,\d{3})+)?(\.\d*)?(e[+-]?\d+)?$/i;
const COMMA = /^[+-]?(\d+|\d{1,3}(\.\d{3})+)?(,\d*)?(e[+-]?\d+)?$/i;

/** The decimal of an amount, from the contract's `format`: how 1,234.5 would be written. */
export const findDecimal = (feature) => /1\D234(\D)5/.exec(String(feature.format ?? ""))?.[1] ?? null;

/** A number written with or without thousands, or null. Without `decimal` a single comma is one. */
export function readNumber(text, decimal = null) {
  const plain = text.replace(/[\s\u00a0\u2009\u202f'’]/g, "").replace("\u2212", "-");
  const last = plain.lastIndexOf(",");
  decimal ??= last > plain.lastIndexOf(".") && last === plain.indexOf(",") ? "," : ".";
  if (!/\d/.test(plain) || !(decimal === "," ? COMMA : POINT).test(plain)) return null;
  const number = Number(decimal === "," ? plain.replaceAll(".", "").replace(",", ".") : plain.replaceAll(",", ""));
  return Number.isFinite(number) ? number : null;
}

/** What a cell of a file is sent as. What cannot be read stays a text; the service then names the fault. */
export function readCell(text, feature, decimal) {
  const trimmed = text.trim();
  if (MISSING.has(trimmed) && !feature.categories?.includes(trimmed)) return null;
  if (feature.type === "number") return readNumber(trimmed, decimal) ?? trimmed;
  if (feature.type === "boolean" && !feature.format) return FLAGS.get(trimmed.toLowerCase()) ?? trimmed;
  return feature.categories?.includes(text) ? text : trimmed;
}

/** The decimal of a file's numbers: a comma where more cells can only mean one. */
export function guessDecimal(rows, columns) {
  let [commas, points] = [0, 0];
  for (const row of rows.slice(0, 1000)) {
    for (const column of columns) {
      const text = row[column] ?? "";
      if (/^\s*[+-]?\d+,(\d{1,2}|\d{4,})\s*$/.test(text)) commas++;
      else if (/^\s*[+-]?\d*\.(\d{1,2}|\d{4,})\s*$/.test(text)) points++;
    }
  }
  return commas > points ? "," : ".";
}

/** A column's name as the service repeats it in a fault. */
export function shorten(name) {
  const letters = Array.from(name);
  return letters.length <= 100 ? name : `${letters.slice(0, 99).join("")}…`;
}

/** The columns that the model uses, the most important first. */
export const listUsed = (contract) =>
  contract.features.filter((feature) => feature.used).sort((a, b) => (b.association ?? 0) - (a.association ?? 0));
