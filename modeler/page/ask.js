// Asking the service, and telling its faults from its absence.

import { askForKey, key } from "./key.js";

/** Nobody answered, or something on the way did that is not the service; it is worth trying again. */
export class Unreachable extends Error {}

const WAITS = [0.5, 1, 2, 4]; // seconds between tries; the last one goes on
const PATIENCE = 30_000; // milliseconds for one answer

/** Status and content of an answer; `body` is posted. */
export async function ask(path, { body, signal = new AbortController().signal } = {}) {
  const sent = key;
  const settings = {
    method: body ? "POST" : "GET",
    body,
    headers: { "content-type": "application/json", ...(sent && { authorization: `Bearer ${sent}` }) },
    signal: AbortSignal.any([signal, AbortSignal.timeout(PATIENCE)]),
  };
  const answer = await fetch(path, settings).catch(() => null);
  const content = await answer?.json().catch(() => null);
  signal.throwIfAborted();
  if (answer?.status === 401) {
    await askForKey(sent);
    return ask(path, { body, signal });
  }
  if (!answer || (answer.ok && !content)) throw new Unreachable("The service cannot be reached.");
  if ([429, 502, 503, 504].includes(answer.status)) {
    throw new Unreachable(content?.error ? `The service says: ${content.error}.` : "The service cannot answer.");
  }
  return { status: answer.status, content: content ?? { error: `status ${answer.status}` } };
}

/** Ask until somebody answers. `tell(sentence)` hears of each failure, and "" once it is over. */
export async function askUntilAnswered(path, options, tell) {
  for (let failures = 0; ; failures++) {
    try {
      const answer = await ask(path, options);
      if (failures) tell("");
      return answer;
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      tell(`${error.message} Trying again; nothing you entered is lost.`);
      await wait(WAITS[Math.min(failures, WAITS.length - 1)], options.signal);
    }
  }
}

const wait = (seconds, signal) =>
  new Promise((resolve, reject) => {
    setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => reject(signal.reason));
  });
