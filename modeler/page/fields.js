// One field a column, made from the contract, and the groups they stand in.

import { fold, make, showCount, showNumber } from "./elements.js";
import { findDecimal, listUsed, readNumber } from "./values.js";

const MOST_SHOWN = 12; // fields before the rest is folded
const GROUP = 24; // fields in a folded group
const OTHER = "other"; // the choice of a text that is not listed; each listed one has "=" before it

/**
 * A field: its `element`; `write(text)`, `text()` and for people `show()` what it holds; `fill(value)` with a value of the data; `read()`,
 * which gives `{value}` or `{problem}`; `mark(problems, warnings)`, which shows sentences below it.
 */
export function createField(feature, id) {
  const note = make("p", { class: "note", id: `${id}-note`, hidden: true });
  const hint = make("p", { class: "hint", id: `${id}-hint` }, describe(feature));
  const control = CONTROLS[feature.type](feature, id);
  control.input.setAttribute("aria-describedby", `${hint.id} ${note.id}`);
  const label = make("label", { for: control.input.id, title: feature.name }, feature.name);
  const field = {
    feature,
    element: make("div", { class: "field" }, label, ...(control.elements ?? [control.input]), hint, note),
    text: control.text,
    show: () => (feature.type === "boolean" ? control.input.selectedOptions[0].text : showMoment(control.text())),
    write: control.write,
    fill: (value) => control.write(value === null || value === undefined ? "" : String(value)),
    read: () => (control.text() === "" && !control.broken?.() ? readEmpty(feature) : control.read()),
    mark(problems, warnings = []) {
      const told = [...problems, ...warnings];
      const readAs = told.length ? "" : control.readAs?.();
      if (readAs) told.push(readAs);
      note.textContent = told.join(" ");
      note.hidden = !told.length;
      field.element.classList.toggle("wrong", problems.length > 0);
      field.element.classList.toggle("unusual", !problems.length && warnings.length > 0);
      control.input.setAttribute("aria-invalid", String(problems.length > 0));
    },
    focus: () => control.input.focus(),
  };
  return field;
}

const readEmpty = (feature) =>
  feature.missing ? { value: null } : { problem: "Needed: the model never saw this one missing." };

function describe(feature) {
  const unknown = feature.missing ? " · may be unknown" : "";
  const empty = feature.missing ? " · leave empty if unknown" : "";
  if (feature.type === "number") {
    const amount = feature.format ? ` · also written like ${feature.format}` : "";
    return `In training ${showNumber(feature.min)} to ${showNumber(feature.max)}${amount}${empty}`;
  }
  if (feature.type === "date") {
    return `In training ${showMoment(feature.min)} to ${showMoment(feature.max)}${feature.time ? " UTC" : ""}${empty}`;
  }
  if (feature.type === "boolean") return feature.missing ? "Yes or no, or unknown" : "Yes or no";
  return `${showCount(feature.categories.length, "choice")} in training, or any other text${unknown}`;
}

const showMoment = (text) => text.replace(/(?<=^....-..-..)T(..:..)(:00)?Z?$/, " $1");

const CONTROLS = {
  number(feature, id) {
    const input = make("input", { id, type: "text", inputmode: "decimal" });
    const decimal = findDecimal(feature);
    return {
      input,
      text: () => input.value.trim(),
      write: (text) => (input.value = decimal === "," ? text.replace(".", ",") : text),
      read() {
        const number = readNumber(input.value, decimal);
        if (number !== null) return { value: number };
        return feature.format ? { value: input.value.trim() } : { problem: "This is not a number." };
      },
      readAs() {
        const number = input.value.includes(",") ? readNumber(input.value, decimal) : null;
        return number === null ? "" : `Read as ${number}.`;
      },
    };
  },
  date(feature, id) {
    const [type, max] = feature.time ? ["datetime-local", "9999-12-31T23:59"] : ["date", "9999-12-31"];
    const input = make("input", { id, type, max, step: "any" });
    return {
      input,
      text: () => input.value,
      write: (text) => (input.value = text.replace(/Z$/, "")),
      broken: () => input.validity.badInput,
      read() {
        if (input.validity.badInput) return { problem: "This date is not complete, or does not exist." };
        return { value: input.value + (feature.time ? (input.value.length === 16 ? ":00Z" : "Z") : "") };
      },
    };
  },
  boolean(feature, id) {
    const [no, yes] = feature.format ?? ["no", "yes"];
    const options = [makeOption("", nameEmpty(feature)), makeOption("true", yes), makeOption("false", no)];
    const select = make("select", { id }, ...options);
    return {
      input: select,
      text: () => select.value,
      write: (text) => (select.value = text === "true" || text === "false" ? text : ""),
      read: () => ({ value: select.value === "true" }),
    };
  },
  category: choose,
};

const makeOption = (value, text) => make("option", { value }, text);
const nameEmpty = (feature) => (feature.missing ? "unknown" : "please choose …");

/** A list of choices; the last one opens a field for any other text. */
function choose(feature, id) {
  const known = feature.categories.map((category) => makeOption(`=${category}`, category));
  const options = [makeOption("", nameEmpty(feature)), ...known, makeOption(OTHER, "another text …")];
  const select = make("select", { id }, ...options);
  const other = make("input", { type: "text", "aria-label": `${feature.name}, another text`, hidden: true });
  const showOther = () => (other.hidden = select.value !== OTHER);
  select.addEventListener("input", () => {
    showOther();
    if (!other.hidden) other.focus();
  });
  const text = () => (select.value === OTHER ? other.value : select.value.slice(1));
  const write = (text) => {
    const listed = feature.categories.includes(text);
    select.value = listed ? `=${text}` : text && OTHER;
    other.value = listed ? "" : text;
    showOther();
  };
  return { input: select, elements: [select, other], text, write, read: () => ({ value: text() }) };
}

/** Fill `root` with a field for each column that the model uses; the fields by the column's name. */
export function createFields(contract, root) {
  const fields = listUsed(contract).map((feature, place) => createField(feature, `value-${place}`));
  const whole = fields.length <= MOST_SHOWN + 3; // two or three fields are not folded away
  const shown = whole ? fields : fields.slice(0, MOST_SHOWN);
  const group = (part) => make("div", { class: "fields" }, ...part.map((field) => field.element));
  const groups = [group(shown)];
  for (let start = shown.length; start < fields.length; start += GROUP) {
    const part = fields.slice(start, start + GROUP);
    const only = part.length + shown.length === fields.length;
    const range = `Columns ${start + 1} to ${start + part.length}, by importance`;
    const title = only ? showCount(part.length, "less important column") : range;
    groups.push(fold(title, group(part)));
  }
  root.replaceChildren(...groups);
  return new Map(fields.map((field) => [field.feature.name, field]));
}

/** Show only the fields whose names hold a text, in open groups; how many these are. */
export function searchFields(fields, root, text) {
  const wanted = text.trim().toLowerCase();
  let found = 0;
  for (const [name, field] of fields) {
    field.element.hidden = !name.toLowerCase().includes(wanted);
    found += !field.element.hidden;
  }
  for (const group of root.querySelectorAll("details")) {
    group.hidden = !group.querySelector(".field:not([hidden])");
    group.open = wanted !== "";
  }
  return found;
}
