// Reading and writing CSV.

const SEPARATORS = [",", ";", "\t"];

/** The text of a file's bytes, in UTF-8 or else windows-1252; null where it is no text. */
export function decode(bytes) {
  if (new Uint8Array(bytes, 0, Math.min(bytes.byteLength, 65536)).includes(0)) return null;
  for (const encoding of ["utf-8", "windows-1252"]) {
    try {
      return { text: new TextDecoder(encoding, { fatal: true }).decode(bytes), encoding }; // without the byte order mark
    } catch {}
  }
  return null;
}

/** The rows of a CSV text, each a list of texts; blank lines are empty lists. Quotes are doubled within quotes. */
export function parse(text, separator, most = Infinity) {
  const rows = [];
  const ending = new RegExp(`[${separator}\\r\\n]`, "g");
  let row = [];
  let at = 0;
  while (at < text.length && rows.length < most) {
    let value = "";
    if (text[at] === '"') {
      for (let start = at + 1; ;) {
        const quote = text.indexOf('"', start);
        if (quote < 0) throw new Error(`The quote that begins in row ${rows.length + 1} never ends.`);
        value += text.slice(start, quote);
        at = quote + 1;
        if (text[at] !== '"') break;
        value += '"';
        start = at + 1;
      }
    }
    ending.lastIndex = at;
    const end = ending.exec(text)?.index ?? text.length;
    row.push(value + text.slice(at, end));
    at = end + 1;
    if (text[end] === separator && at < text.length) continue;
    if (text[end] === separator) row.push("");
    if (text[end] === "\r" && text[at] === "\n") at++;
    rows.push(row.length === 1 && row[0] === "" ? [] : row);
    row = [];
  }
  return rows;
}

/** The separator by which the header has the most of the wanted columns, a set, or else the most columns. */
export function findSeparator(text, wanted) {
  const head = text.slice(0, 1 << 20);
  const rate = (separator) => {
    try {
      const [header = []] = parse(head, separator, 1);
      return header.filter((name) => wanted.has(name.trim())).length + header.length / 1e6;
    } catch {
      return 0;
    }
  };
  return SEPARATORS.reduce((best, other) => (rate(other) > rate(best) ? other : best));
}

/** Rows of texts and numbers as CSV. A text that a spreadsheet would take for a formula gets a ' in front. */
export function write(rows, separator, decimal) {
  const writeCell = (cell) => {
    let text = typeof cell === "number" ? String(cell).replace(".", decimal) : cell;
    if (/^[=+\-@\t\r]/.test(text) && !/^[+-]?[\d.,]+(e[+-]?\d+)?$/i.test(text)) text = `'${text}`;
    return text.includes(separator) || /["\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return `\ufeff${rows.map((row) => row.map(writeCell).join(separator)).join("\r\n")}\r\n`;
}
