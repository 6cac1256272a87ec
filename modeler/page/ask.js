// Asking the service, and telling its faults from its absence.

/** Nobody answered, or something on the way did that is not the service; it is worth trying again. */
export class Unreachable extends Error {}

const WAITS = [1, 2, 4]; // seconds between tries; the last one goes on
const PATIENCE = 30_000; // milliseconds for one answer

/** Status and content of an answer; `body` is posted. */
export async function ask(path, { body, signal } = {}) {
  const limit = AbortSignal.timeout(PATIENCE);
  let answer, content;
  try {
    const headers = { accept: "application/json", ...(body ? { "content-type": "application/json" } : {}) };
    answer = await fetch(path, { method: body ? "POST" : "GET", body, headers, signal: signal ? AbortSignal.any([signal, limit]) : limit });
    content = await answer.json();
  } catch {
    signal?.throwIfAborted();
    throw new Unreachable(answer?.ok ?? true ? "The service cannot be reached." : `The service cannot answer (status ${answer.status}).`);
  }
  if ([429, 502, 503, 504].includes(answer.status)) throw new Unreachable(content?.error ? `The service says: ${content.error}.` : "The service cannot answer.");
  return { status: answer.status, content };
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

const wait = (seconds, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, 1000 * seconds);
  signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); });
});
