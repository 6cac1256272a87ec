// The answer as people read it: label and probabilities, or value; and why.

import { make, showCount, showNumber, showShare } from "./elements.js";

const MOST_BARS = 6; // classes shown before the rest is folded
const MOST_REASONS = 8; // columns of an explanation before the rest is folded

/** The answer in a few words, for the headline. */
export function nameAnswer(answer, target) {
  if ("value" in answer) return [showNumber(answer.value), "low" in answer ? `${showNumber(answer.low)} to ${showNumber(answer.high)}` : ""];
  const key = nameClass(answer.label);
  return [key, Object.hasOwn(answer.probabilities, key) ? showShare(answer.probabilities[key]) : ""];
}

/** A class as the keys of `probabilities` name it. */
const nameClass = (label) => (typeof label === "string" ? label : JSON.stringify(label));

export function drawAnswer(root, answer, target) {
  root.replaceChildren(...("value" in answer ? drawValue(answer, target) : drawClasses(answer, target)));
}

function drawValue(answer, target) {
  const about = `The value of ${target.name} that the model expects.`;
  if (!("low" in answer)) return [make("p", { class: "quiet" }, about)];
  const width = answer.high - answer.low;
  const dot = make("span", { class: "dot" });
  dot.style.left = `${width > 0 ? (100 * (answer.value - answer.low)) / width : 50}%`;
  const ends = make("p", { class: "ends" }, make("span", {}, showNumber(answer.low)), make("span", {}, showNumber(answer.high)));
  const share = showShare(target.interval);
  return [
    make("div", { class: "interval", "aria-hidden": "true" }, dot), ends,
    make("p", { class: "quiet" }, `${about} In ${share} of the cases the true one lies between ${showNumber(answer.low)} and ${showNumber(answer.high)}.`),
  ];
}

function drawClasses(answer, target) {
  const chosen = nameClass(answer.label), shares = Object.entries(answer.probabilities);
  const positive = "positive" in target ? nameClass(target.positive) : null;
  if (shares.length > MOST_BARS) shares.sort((a, b) => b[1] - a[1]);
  const bars = shares.map(([name, share]) => drawBar(name, share, name === chosen, name === positive ? target.threshold : null));
  const drawn = [make("ul", { class: "bars", "aria-label": "Probabilities" }, bars.slice(0, MOST_BARS))];
  if (bars.length > MOST_BARS) drawn.push(fold(showCount(bars.length - MOST_BARS, "less probable class", "less probable classes"), "bars", bars.slice(MOST_BARS)));
  if (positive !== null) {
    drawn.push(make("p", { class: "quiet" }, `The mark: from ${showShare(target.threshold)} on, the answer is ${positive}.`));
  }
  return drawn;
}

function drawBar(name, share, chosen, threshold) {
  const fill = make("span", { class: "fill" });
  fill.style.width = `${100 * share}%`;
  const track = make("span", { class: "track", "aria-hidden": "true" }, fill);
  if (threshold !== null) {
    const mark = make("span", { class: "threshold" });
    mark.style.left = `${100 * threshold}%`;
    track.append(mark);
  }
  return make("li", { class: chosen ? "chosen" : "other" }, make("span", { class: "name" }, name), make("span", { class: "figure" }, showShare(share)), track);
}

const fold = (title, kind, items) => make("details", {}, make("summary", {}, title), make("ul", { class: kind }, items));

/** The explanation of an answer: `show(name)` gives the text that was entered for a column. */
export function drawReasons(root, answer, target, show) {
  const isShare = "label" in answer;
  const reasons = Object.entries(answer.contributions).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const largest = Math.max(...reasons.map(([, by]) => Math.abs(by)), 1e-12);
  const write = isShare ? showShare : showNumber;
  const whole = reasons.reduce((sum, [, by]) => sum + by, answer.base);
  const subject = isShare ? `the probability of ${nameClass(answer.explained)}` : target.name;
  const items = reasons.map(([name, by]) => drawReason(name, by, largest, isShare, show(name)));
  root.replaceChildren(
    make("h3", {}, "Why"),
    make("p", { class: "quiet" }, `Without these values, ${subject} would be ${write(answer.base)}. They move it to ${write(Math.max(isShare ? 0 : -Infinity, whole))}:`),
    make("ul", { class: "reasons" }, items.slice(0, MOST_REASONS)),
  );
  if (items.length > MOST_REASONS) {
    const rest = reasons.slice(MOST_REASONS).reduce((sum, [, by]) => sum + by, 0);
    root.append(fold(`${showCount(items.length - MOST_REASONS, "more column")}, ${isShare ? showPoints(rest) : signed(rest)} together`, "reasons", items.slice(MOST_REASONS)));
  }
  root.hidden = false;
}

const sign = (by) => (by < 0 ? "−" : "+");
const signed = (by) => sign(by) + showNumber(Math.abs(by));
const showPoints = (by) => `${sign(by)}${(100 * Math.abs(by)).toFixed(1)} points`;

function drawReason(name, by, largest, isShare, entered) {
  const fill = make("span", { class: "fill" });
  const half = (50 * Math.abs(by)) / largest;
  fill.style.width = `${half}%`;
  fill.style.left = `${by < 0 ? 50 - half : 50}%`;
  const word = by > 0 ? "raises" : by < 0 ? "lowers" : "no effect";
  const figure = make("span", { class: "figure" }, make("span", { class: "word" }, word), by === 0 ? "" : ` ${isShare ? showPoints(by) : signed(by)}`);
  const named = make("span", { class: "name", title: name }, name, make("span", { class: "entered" }, ` ${entered}`));
  return make("li", { class: word.split(" ")[0] }, named, figure, make("span", { class: "track", "aria-hidden": "true" }, fill));
}
