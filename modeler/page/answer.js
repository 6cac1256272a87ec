// The answer as people read it: label and probabilities, or value; and why.

import { fold, make, say, showNumber, showShare } from "./elements.js";

const MOST_BARS = 6; // classes shown before the rest is folded
const MOST_REASONS = 8; // columns of an explanation before the rest is folded

export function nameAnswer(answer) {
  if ("low" in answer) return [showNumber(answer.value), `${showNumber(answer.low)} to ${showNumber(answer.high)}`];
  if ("value" in answer) return [showNumber(answer.value), ""];
  const key = nameClass(answer.label, answer);
  return [key, showShare(answer.probabilities[key])];
}

/** A class as the keys of `probabilities` name it, where the number 1 may be 1.0. */
function nameClass(label, { probabilities }) {
  const keys = Object.keys(probabilities);
  return keys.find((key) => key === String(label)) ?? keys.find((key) => Number(key) === label);
}

export function drawAnswer(root, answer, target) {
  root.replaceChildren(...("value" in answer ? drawValue(answer, target) : drawClasses(answer, target)));
}

function drawValue(answer, target) {
  const about = `The value of ${target.name} that the model expects.`;
  if (!("low" in answer)) return [say(about)];
  const [low, high] = [showNumber(answer.low), showNumber(answer.high)];
  return [say(`${about} In ${showShare(target.interval)} of the cases the true one lies between ${low} and ${high}.`)];
}

function drawClasses(answer, target) {
  const chosen = nameClass(answer.label, answer);
  const shares = Object.entries(answer.probabilities);
  const positive = "positive" in target ? nameClass(target.positive, answer) : null;
  if (shares.length > MOST_BARS) shares.sort((a, b) => b[1] - a[1]);
  const bars = shares.map(([name, share]) =>
    drawBar(name, share, name === chosen, name === positive ? target.threshold : null),
  );
  const drawn = listAndFold(bars, MOST_BARS, "bars", () => "less probable");
  if (positive !== null)
    drawn.push(say(`The mark: from ${showShare(target.threshold)} on, the answer is ${positive}.`));
  return drawn;
}

function drawBar(name, share, chosen, threshold) {
  const mark = threshold === null ? [] : [draw("threshold", { left: `${100 * threshold}%` })];
  const track = [draw("fill", { width: `${100 * share}%` }), ...mark];
  return drawItem(chosen ? "chosen" : "other", [name], [showShare(share)], track);
}

const span = (kind, ...content) => make("span", { class: kind }, ...content);
const draw = (kind, style) => {
  const part = span(kind);
  Object.assign(part.style, style);
  return part;
};

function drawItem(kind, name, figure, track) {
  const below = make("span", { class: "track", "aria-hidden": "true" }, ...track);
  return make("li", { class: kind, title: name[0] }, span("name", ...name), span("figure", ...figure), below);
}

function listAndFold(items, most, kind, nameRest) {
  const [shown, rest] = [items.slice(0, most), items.slice(most)].map((part) => make("ul", { class: kind }, ...part));
  return items.length > most ? [shown, fold(`${items.length - most} more, ${nameRest()}`, rest)] : [shown];
}

/** The explanation of an answer: `show(name)` gives the text that was entered for a column. */
export function drawReasons(root, answer, target, show) {
  const isShare = "label" in answer;
  const reasons = Object.entries(answer.contributions).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const largest = Math.max(...reasons.map(([, by]) => Math.abs(by)), 1e-12);
  const write = isShare ? showShare : showNumber;
  const add = (some) => some.reduce((sum, [, by]) => sum + by, 0);
  const whole = answer.base + add(reasons);
  const sign = (by) =>
    `${by < 0 ? "−" : "+"}${isShare ? `${(100 * Math.abs(by)).toFixed(1)} points` : showNumber(Math.abs(by))}`;
  const subject = isShare ? `the probability of ${nameClass(answer.explained, answer)}` : target.name;
  const items = reasons.map(([name, by]) => drawReason(name, by, by / largest, sign(by), show(name)));
  const end = write(isShare ? Math.min(Math.max(whole, 0), 1) : whole);
  const nameRest = () => `${sign(add(reasons.slice(MOST_REASONS)))} together`;
  root.replaceChildren(
    make("h3", {}, "Why"),
    say(`On average ${subject} is ${write(answer.base)}. The values of this case move it to ${end}:`),
    ...listAndFold(items, MOST_REASONS, "reasons", nameRest),
  );
  root.hidden = false;
}

/** A bar to the right or the left of the middle; `length` is from -1 to 1. */
function drawReason(name, by, length, figure, entered) {
  const word = by > 0 ? "raises" : by < 0 ? "lowers" : "unmoved";
  const bar = draw("fill", { width: `${50 * Math.abs(length)}%`, left: `${50 + 50 * Math.min(length, 0)}%` });
  return drawItem(word, [name, span("entered", ` ${entered}`)], [span("entered", word), ` ${figure}`], [bar]);
}
