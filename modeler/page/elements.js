// Making elements. Whatever comes from the data becomes text, never markup.

/** An element: texts become attributes, all else properties; children are elements and texts. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "string" && name !== "value") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

export const say = (text) => make("p", { class: "quiet" }, text);

export const fold = (title, content) => make("details", {}, make("summary", {}, title), content);

export const find = (id) => document.getElementById(id);

const count = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 5 });

export const showCount = (number, one, more = `${one}s`) => `${count.format(number)} ${number === 1 ? one : more}`;
export const showNumber = (number) =>
  Math.abs(number) >= 1e9 || (number !== 0 && Math.abs(number) < 1e-4) ? number.toExponential(3) : short.format(number);

/** A probability in per cent. What is not quite 0 or 1 is never shown as if it were. */
export function showShare(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  if (share < 1 && share > 0.999) return "> 99.9 %";
  return `${(100 * share).toFixed(1).replace(/\.0$/, "")} %`;
}

export const join = (names, most = 8) =>
  names.slice(0, most).join(", ") + (names.length > most ? ` and ${names.length - most} more` : "");
