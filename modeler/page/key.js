// The key that a service may ask for, kept for this tab.

import { make } from "./elements.js";

const PLACE = `key ${new URL(".", location).pathname}`; // other services may live below other paths
let storage = {};
try {
  storage = sessionStorage;
} catch {} // a browser may forbid it

export let key = storage[PLACE];
let question; // while it is shown

/** Ask for a key, unless another one than `wrong` is there by now. */
export function askForKey(wrong) {
  if (key !== wrong) return;
  return (question ??= new Promise((resolve) => {
    const told = wrong ? "The service does not know this key. Another one:" : "The service asks for a key:";
    const label = make("label", { for: "key" }, told);
    const input = make("input", { id: "key", type: "password", autocomplete: "off", required: true });
    const form = make("form", { method: "dialog", class: "field" }, label, input, make("button", {}, "Go on"));
    const onclose = () => {
      storage[PLACE] = key = input.value.replace(/[^!-~]/g, "");
      question = dialog.remove();
      resolve();
    };
    const dialog = make("dialog", { onclose }, form);
    document.body.append(dialog);
    dialog.showModal();
  }));
}

// A browser sends no header when it follows a link: for seconds, this link's cookie holds the key.
for (const kind of ["click", "auxclick"]) {
  addEventListener(kind, ({ target }) => {
    const link = target.closest("nav a");
    const safe = location.protocol === "https:" ? ";secure" : "";
    if (key && link) document.cookie = `key=${key};path=${link.pathname};max-age=9;samesite=strict${safe}`;
  });
}
