// The page at /: a form made from the contract of the model that answers.

import { drawAnswer, drawReasons, nameAnswer } from "./answer.js";
import { ask, askUntilAnswered } from "./ask.js";
import { find, join, make, showCount, showNumber, showShare } from "./elements.js";
import { createFields, searchFields } from "./fields.js";
import { startFiles } from "./file.js";
import { listUsed, shorten } from "./values.js";

let model, fields; // what GET model says; the fields by the column's name
let turn = new AbortController(); // of the newest question; older ones are dropped
let examples = null; // held-out rows
let example = -1; // which of them is shown
let explains = true; // whether this service can say why
let followed = null; // the tag that was last followed: while two models take turns, each is followed once

const CHANGED = " Changed since.";
const tell = (sentence) => (find("notice").textContent = sentence);

async function loadModel() {
  const answer = await askUntilAnswered("model", {}, tell);
  if (answer.status !== 200) return tell(answer.content.error);
  model = answer.content;
  examples = null;
  explains = true;
  const { contract } = model;
  const about = [contract.name, `model ${model.tag.split(":")[1]}`, `made from ${showCount(contract.rows, "row")}`];
  find("about").textContent = [...about, ...listScores(model.metrics)].join(" · ");
  document.title = find("title").textContent = `Predict ${contract.target.name}`;
  fields = createFields(contract, find("groups"));
  find("search-row").hidden = fields.size <= 15;
  find("search").value = "";
}

function listScores(metrics) {
  if (Number.isFinite(metrics?.accuracy)) return [`right on ${showShare(metrics.accuracy)} of the rows held out`];
  return Number.isFinite(metrics?.mae) ? [`off by ${showNumber(metrics.mae)} on average on rows held out`] : [];
}

function fill(row, origin) {
  for (const [name, field] of fields) field.fill(Object.hasOwn(row, name) ? row[name] : null);
  find("origin").textContent = origin;
}

function fillExample() {
  const row = Object.create(null);
  for (const { name, example } of listUsed(model.contract)) row[name] = example;
  fill(row, "A real row of the training data.");
}

async function showAnother() {
  if (!examples) {
    const answer = await askUntilAnswered("examples", {}, tell);
    if (answer.status !== 200) return tell(answer.content.error);
    examples = answer.content.rows;
    example = -1;
  }
  example = (example + 1) % examples.length;
  fill(examples[example], `A real row that training did not see, ${example + 1} of ${examples.length}.`);
  follow();
}

// The address: what the fields show, after the #.

function writeAddress() {
  const texts = new URLSearchParams([...fields].map(([name, field]) => [name, field.text()]));
  history.replaceState(null, "", `#${texts}`);
}

/** Fill the fields from the address; false if it holds none of them. */
function readAddress() {
  const texts = new Map(new URLSearchParams(location.hash.slice(1)));
  if (![...texts.keys()].some((name) => fields.has(name))) return false;
  fillExample();
  for (const [name, text] of texts) fields.get(name)?.write(text);
  const left = [...fields.keys()].filter((name) => !texts.has(name));
  const lacks = left.length ? `, which lacks ${join(left)}: there stands an example` : "";
  find("origin").textContent = `From the address of this page${lacks}.`;
  return true;
}

/** Ask for what the fields hold now, and note it in the address. */
function follow() {
  turn.abort();
  turn = new AbortController();
  const { row, problems } = readFields();
  mark(problems, new Map());
  clearTimeout(follow.timer);
  follow.timer = setTimeout(writeAddress, 200);
  if (problems.size) showIncomplete([...problems.keys()]);
  else answerRow(row, turn.signal).catch((error) => error.name === "AbortError" || reportError(error));
}

function readFields() {
  const row = Object.create(null); // without a prototype, __proto__ is a name like any other
  const problems = new Map();
  for (const [name, field] of fields) {
    const { value, problem } = field.read();
    if (problem) problems.set(name, [problem]);
    else row[name] = value;
  }
  return { row, problems };
}

function mark(problems, warnings) {
  for (const [name, field] of fields) {
    field.mark(problems.get(name) ?? [], warnings.get(name));
    if (problems.has(name) || warnings.has(name)) field.element.closest("details")?.setAttribute("open", "");
  }
}

async function answerRow(row, signal) {
  const body = JSON.stringify([row]);
  const { status, content } = await askUntilAnswered("predict", { body, signal }, tell);
  if (status !== 200) return showFaults(content);
  if (content.model !== model.tag && content.model !== followed) {
    followed = content.model;
    return followModel();
  }
  const [answer] = content.predictions;
  const [short, more] = nameAnswer(answer);
  find("headline").replaceChildren(make("strong", {}, short), " ", make("span", {}, more));
  find("answer").classList.remove("stale");
  drawAnswer(find("details"), answer, model.contract.target);
  mark(new Map(), assign(answer.warnings));
  await explainRow(body, signal);
}

/** Warnings by the column they begin with, in a layman's words. */
function assign(warnings) {
  const names = [...fields.keys()].sort((a, b) => b.length - a.length);
  return new Map(
    warnings.map((warning) => {
      const name = names.find((column) => warning.startsWith(`${column} `));
      const what = warning.endsWith("not seen in training")
        ? "never had this text"
        : "had no value this small or large";
      return [name, [`Unusual: the training data ${what}. Take the answer with care.`]];
    }),
  );
}

async function explainRow(body, signal) {
  if (!explains) return;
  const answer = await ask("explain", { body, signal }).catch(() => null);
  if (signal.aborted) return;
  explains = answer?.status !== 404;
  const [prediction] = answer?.content?.predictions ?? [];
  if (!prediction?.contributions) return void (find("why").hidden = true);
  const entered = (name) => fields.get(name)?.show() || "unknown";
  drawReasons(find("why"), prediction, model.contract.target, entered);
}

async function showFaults(content) {
  const problems = new Map();
  const rest = [];
  for (const { field, message } of content.detail ?? []) {
    const names = [...fields.keys()].filter((name) => field !== null && shorten(name) === field);
    if (!names.length || message.startsWith("missing")) rest.push(message);
    else for (const name of names) problems.set(name, [`${message[0].toUpperCase()}${message.slice(1)}.`]);
  }
  if (rest.length && (await isExchanged())) return followModel();
  mark(problems, new Map());
  if (problems.size) showIncomplete([...problems.keys()]);
  else {
    setStale("No answer");
    tell(`The service says: ${content.detail?.[0]?.message ?? content.error}.`);
  }
}

function showIncomplete(names) {
  setStale("No answer yet");
  const link = (name) =>
    make("button", { type: "button", class: "link", onclick: fields.get(name).focus }, shorten(name));
  const title = make("p", {}, `${showCount(names.length, "value")} to fill in or correct:`);
  find("details").replaceChildren(title, make("p", { class: "links" }, ...names.slice(0, 5).map(link)));
}

function setStale(headline) {
  find("headline").replaceChildren(make("strong", {}, headline));
  find("answer").classList.add("stale");
  find("why").hidden = true;
}

const isExchanged = async () => (await askUntilAnswered("model", {}, tell)).content.tag !== model.tag;

/** Another model answers: make the form anew, and keep what was entered. */
async function followModel() {
  const texts = new Map([...fields].map(([name, field]) => [name, field.text()]));
  const before = model.tag;
  await loadModel();
  fillExample();
  for (const [name, text] of texts) fields.get(name)?.write(text);
  const gone = [...texts.keys()].filter((name) => !fields.has(name));
  const added = [...fields.keys()].filter((name) => !texts.has(name));
  const told = [`Another model answers now: ${model.tag}, before ${before}. What you entered is kept.`];
  if (added.length) told.push(`New, with an example: ${join(added.map(shorten))}.`);
  if (gone.length) told.push(`No longer used: ${join(gone.map(shorten))}.`);
  follow();
  tell(told.join(" "));
}

function show(chosen) {
  for (const name of ["case", "file"]) {
    find(name).hidden = name !== chosen;
    find(`show-${name}`).setAttribute("aria-pressed", String(name === chosen));
  }
}

find("form").addEventListener("input", (event) => {
  if (event.target.id !== "search") {
    if (!find("origin").textContent.endsWith(CHANGED)) find("origin").append(CHANGED);
    return follow();
  }
  const found = searchFields(fields, find("groups"), event.target.value);
  find("found").textContent = event.target.value ? `${found} of ${showCount(fields.size, "column")}` : "";
});
find("form").addEventListener("submit", (event) => event.preventDefault());
find("another").addEventListener("click", showAnother);
find("show-case").addEventListener("click", () => show("case"));
find("show-file").addEventListener("click", () => show("file"));
addEventListener("hashchange", () => fields && readAddress() && follow());

await loadModel();
if (model) {
  if (!readAddress()) fillExample();
  startFiles({ getModel: () => model, isExchanged, followModel, show: () => show("file") });
  performance.mark("usable");
  follow();
}
