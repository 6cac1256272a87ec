// A file of many rows: read here, answered in parts, shown as a table, downloaded.

import { nameAnswer } from "./answer.js";
import { askUntilAnswered } from "./ask.js";
import { decode, findSeparator, parse, write } from "./csv.js";
import { find, join, make, say, showCount } from "./elements.js";
import { drawTable } from "./table.js";
import { guessDecimal, listUsed, readCell, shorten } from "./values.js";

const LARGEST = 20e6; // bytes; a browser holds several times as many while it reads
const PART = 500; // rows of one request, fewer where the service wants fewer
const MOST_FAULTS = 1000; // after which the rest of a file is not asked for
const MOST_LISTED = 100; // faults shown
const NAMES = { ",": "comma", ";": "semicolon", "\t": "tab", ".": "point" };

class Refusal extends Error {}

function refuse(sentence) {
  throw new Refusal(sentence);
}

let running = null; // the AbortController of the file at work

const tell = (sentence) => (find("said-of-file").textContent = sentence);

/** Watch for files that are chosen or dropped. `page` has `getModel`, `followModel` and `show`. */
export function startFiles(page) {
  find("chosen").addEventListener("change", (event) => event.target.files.length && start(event.target.files[0], page));
  find("cancel").addEventListener("click", () => running?.abort());
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) start(file, page);
  });
}

async function start(file, page) {
  running?.abort();
  const { signal } = (running = new AbortController());
  page.show();
  for (const part of ["understood", "faults", "results"]) find(part).replaceChildren();
  tell(`Reading ${file.name} …`);
  try {
    const table = await readTable(file, listUsed(page.getModel().contract));
    if (signal.aborted) return;
    showUnderstood(table, file.name);
    const { lost } = table;
    if (lost.length) refuse(`The file lacks ${showCount(lost.length, "column")} that the model needs: ${join(lost)}.`);
    await answerTable(table, page, signal);
    show(table, page.getModel().contract.target, file.name);
  } catch (error) {
    if (error instanceof Refusal) tell(error.message);
    else if (!signal.aborted) tell(`The file cannot be read: ${error.message}`);
    else if (signal === running.signal) tell("Cancelled. Nothing of this file is kept.");
  } finally {
    if (signal === running.signal) find("progress").hidden = true;
    find("chosen").value = ""; // so that the same file can be chosen again
  }
}

/** The file as a table: `header`, `rows` of texts, their `numbers` as a spreadsheet counts, and how it is written. */
async function readTable(file, used) {
  const [size, most] = [Math.ceil(file.size / 1e6), LARGEST / 1e6];
  if (file.size > LARGEST) {
    refuse(
      `This file has ${size} MB; the page reads up to ${most} MB. Cut it in parts, or use python pipeline.py score.`,
    );
  }
  const decoded = decode(await file.arrayBuffer());
  if (!decoded) refuse("This is not a text file. Save the table as CSV, in UTF-8, and choose that file.");
  const needed = new Set(used.map((feature) => feature.name));
  const separator = findSeparator(decoded.text, needed);
  const [first = [], ...all] = parseOrRefuse(decoded.text, separator);
  const header = first.map((name) => name.trim());
  const numbers = all.flatMap((row, place) => (row.length ? [place + 2] : []));
  const rows = numbers.map((number) => all[number - 2]);
  if (!rows.length)
    refuse("This file has no rows: it needs one with the names of the columns, and one or more with values.");
  const twice = header.filter((name, place) => needed.has(name) && header.indexOf(name) !== place);
  if (twice.length) refuse(`The file has two columns named ${join(twice)}; keep one of them.`);
  const columns = used.map((feature) => ({ feature, place: header.indexOf(feature.name) }));
  const numeric = columns.filter(({ feature }) => feature.type === "number").map(({ place }) => place);
  const lost = [...needed].filter((name) => !header.includes(name));
  const extra = header.filter((name) => !needed.has(name));
  const written = { separator, decimal: guessDecimal(rows, numeric), encoding: decoded.encoding };
  const found = { answers: rows.map(() => null), faults: [], faulty: new Set() };
  return { header, rows, numbers, columns, lost, extra, ...written, ...found };
}

function parseOrRefuse(text, separator) {
  try {
    return parse(text, separator);
  } catch (error) {
    refuse(error.message);
  }
}

function showUnderstood(table, name) {
  const count = table.columns.length;
  const facts = [
    ["File", `${name}, ${showCount(table.rows.length, "row")}`],
    ["Written with", `${NAMES[table.separator]}, decimal ${NAMES[table.decimal]}, ${table.encoding}`],
    ["Columns", `${count - table.lost.length} of the ${count} that the model uses`],
  ];
  if (table.lost.length) facts.push(["Missing", join(table.lost, 20)]);
  if (table.extra.length) facts.push(["Not used", join(table.extra, 20)]);
  const items = facts.map(([term, fact]) => make("div", {}, make("dt", {}, term), make("dd", {}, fact)));
  find("understood").replaceChildren(make("dl", {}, ...items));
}

/** Answer all rows, part by part; `table.answers` and `table.faults` are filled. */
async function answerTable(table, page, signal) {
  const { tag } = page.getModel();
  let size = PART;
  find("progress").hidden = false;
  showProgress(0, table.rows.length);
  for (let start = 0; start < table.rows.length && table.faults.length < MOST_FAULTS;) {
    const part = table.rows.slice(start, start + size).map((_, place) => start + place);
    const places = part.filter((place) => fits(table, place));
    const { status, content } = places.length
      ? await askUntilAnswered("predict", { body: writeBody(table, places), signal }, tell)
      : {};
    if (status === 413 && size > 1) {
      size = Math.ceil(size / 2);
      continue;
    }
    if (status === 200) {
      if (content.model !== tag) await refuseExchanged(page);
      content.predictions.forEach((answer, place) => (table.answers[places[place]] = answer));
    } else if (places.length) {
      const faulty = (content.detail ?? []).filter((fault) => fault.row !== null && places[fault.row] !== undefined);
      if (await page.isExchanged()) await refuseExchanged(page);
      if (!faulty.length) refuse(`The service says: ${content.detail?.[0]?.message ?? content.error}.`);
      for (const { row, field, message, value } of faulty) noteFault(table, places[row], field, message, value);
      continue; // the same rows without the faulty ones
    }
    start += size;
    showProgress(Math.min(start, table.rows.length), table.rows.length);
  }
}

async function refuseExchanged(page) {
  await page.followModel();
  refuse("Another model answers now. Choose the file again, so that one model answers all of it.");
}

/** Whether a row can be asked for: it has as many cells as the header and no fault so far. */
function fits(table, place) {
  const cells = table.rows[place].length;
  if (cells !== table.header.length && !table.faulty.has(place)) {
    noteFault(table, place, null, `it has ${showCount(cells, "cell")}, the first row ${table.header.length}`, null);
  }
  return !table.faulty.has(place);
}

function noteFault(table, place, field, message, value) {
  table.faulty.add(place);
  table.faults.push({ row: table.numbers[place], field, message, value });
}

function writeBody(table, places) {
  const body = Object.create(null); // without a prototype, __proto__ is a name like any other
  for (const { feature, place } of table.columns) {
    body[feature.name] = places.map((row) => readCell(table.rows[row][place], feature, table.decimal));
  }
  return JSON.stringify(body);
}

function showProgress(done, all) {
  Object.assign(find("done"), { max: all, value: done });
  find("count").textContent = `${done} of ${showCount(all, "row")}`;
}

function show(table, target, name) {
  const answered = table.answers.filter(Boolean).length;
  const left = table.rows.length - answered;
  const without = left ? ` ${showCount(left, "row")} without an answer.` : "";
  const stopped = table.faults.length >= MOST_FAULTS ? " So many faults: correct the file first." : "";
  tell(`${showCount(answered, "row")} answered.${without}${stopped}`);
  showFaults(table);
  if (!answered) return;
  const answers = listAnswerColumns(table, target);
  const names = [...table.extra.slice(0, 3), ...table.columns.slice(0, 8).map(({ feature }) => feature.name)];
  const places = names.map((column) => table.header.indexOf(column));
  const shown = names.map((column, at) => ({ name: column, get: (row) => table.rows[row][places[at]] ?? "" }));
  const numbers = { name: "Row", get: (row) => table.numbers[row] };
  const onclick = () => save(table, answers, name);
  const download = make("button", { type: "button", class: "main", onclick }, "Download as CSV");
  find("results").replaceChildren(
    make("div", { class: "bar" }, make("h3", {}, "Answers"), download),
    drawTable(table.rows.length, [numbers, ...answers, ...shown]),
  );
}

/** The columns of an answer, named as `pipeline.py score` names them. */
function listAnswerColumns(table, target) {
  const column = (name, get) => ({ name, get: (row) => (table.answers[row] ? get(table.answers[row]) : "") });
  const warnings = column("warnings", (answer) => answer.warnings.join("; "));
  if (!target.classes) {
    const names = "interval" in target ? ["value", "low", "high"] : ["value"];
    return [...names.map((name) => column(name, (answer) => answer[name])), warnings];
  }
  const first = table.answers.find(Boolean);
  const shares = Object.keys(first.probabilities).map((key) =>
    column(`probability:${key}`, (answer) => answer.probabilities[key]),
  );
  return [column("label", (answer) => nameAnswer(answer)[0]), ...shares, warnings];
}

function showFaults(table) {
  const { faults } = table;
  const more = faults.length - MOST_LISTED;
  if (!faults.length) return;
  const items = faults.slice(0, MOST_LISTED).map(({ row, field, message, value }) => {
    const told = field === null ? "" : ` is ${value === null ? "empty" : shorten(String(value))}`;
    return make("li", {}, make("strong", {}, `Row ${row}${field === null ? "" : `, ${field}`}`), `${told}: ${message}`);
  });
  find("faults").replaceChildren(
    make("h3", {}, showCount(faults.length, "fault")),
    say("Rows are counted as a spreadsheet does; the names of the columns stand in row 1."),
    make("ul", {}, ...items),
    more > 0 ? say(`… and ${more} more.`) : "",
  );
}

function save(table, answers, name) {
  const head = [...table.header, ...answers.map((column) => column.name)];
  const rows = table.rows.map((cells, row) => {
    const kept = table.header.map((_, place) => cells[place] ?? "");
    return [...kept, ...answers.map((column) => column.get(row))];
  });
  const text = write([head, ...rows], table.separator, table.decimal);
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  make("a", { href: address, download: `${name.replace(/\.\w+$/, "")}-answers.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
