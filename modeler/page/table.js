// A table that is sorted by the button in each column's head.

import { make, showCount, showNumber } from "./elements.js";

const MOST_ROWS = 200; // shown at a time

/** A table of `length` rows; each of `columns` has a `name`, and `get(row)` gives a text or number. */
export function drawTable(length, columns) {
  const order = [...Array(length).keys()];
  const heads = columns.map(drawHead);
  const body = make("tbody");
  const rows = showCount(length, "row");
  const told = length > MOST_ROWS ? `The first ${MOST_ROWS} of ${rows} in this order; the download has all.` : rows;
  const caption = make("caption", { class: "quiet" }, told);
  const table = make("table", {}, caption, make("thead", {}, make("tr", {}, ...heads)), body);
  const drawRow = (row) => make("tr", {}, ...columns.map((column) => drawCell(column.get(row))));
  const fill = () => body.replaceChildren(...order.slice(0, MOST_ROWS).map(drawRow));
  heads.forEach((head, place) => {
    head.firstChild.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(order, columns[place].get, down);
      fill();
    });
  });
  fill();
  return make("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Answers, a table" }, table);
}

const drawHead = ({ name }) => make("th", { scope: "col" }, make("button", { type: "button", title: name }, name));

const drawCell = (value) =>
  typeof value === "number" ? make("td", { class: "number" }, showNumber(value)) : make("td", {}, value);

/** Sort rows by a column: numbers by size, also those written as texts; what is empty comes last. */
function sort(order, get, down) {
  const read = (row) => {
    const value = get(row);
    const number = typeof value === "string" ? Number(value.replace(",", ".")) : value;
    return value === "" ? null : Number.isNaN(number) ? value : number;
  };
  const keys = new Map(order.map((row) => [row, read(row)]));
  const rank = (key) => (key === null ? 2 : typeof key === "string" ? 1 : 0);
  order.sort((a, b) => {
    const [left, right] = [keys.get(a), keys.get(b)];
    if (left === null || right === null) return rank(left) - rank(right);
    const order = rank(left) - rank(right) || (typeof left === "number" ? left - right : left.localeCompare(right));
    return down ? -order : order;
  });
}
