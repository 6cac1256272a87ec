// Swagger UI, as BentoML brings it, for the service's OpenAPI document.

import { ask } from "./ask.js";
import { key } from "./key.js";

await ask("docs.json").catch(() => null); // a person is asked for a key, if there must be one
window.SwaggerUIBundle({
  url: "docs.json",
  dom_id: "#swagger-ui",
  validatorUrl: null, // nothing is asked outside
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: true,
  requestInterceptor(request) {
    if (key) request.headers.Authorization ??= `Bearer ${key}`;
    return request;
  },
  syntaxHighlight: { theme: "arta" }, // the default's numbers have too little contrast
});

// Swagger UI leaves these without a name, and what scrolls out of reach of the keyboard.
const NAMES = [
  ["textarea", "Body of the request"],
  [".examples-select-element", "Example"],
  [".copy-to-clipboard button", "Copy"],
  ["table[role=region]", "Responses"],
];
new MutationObserver(() => {
  for (const [kind, name] of NAMES) {
    document
      .querySelectorAll(`${kind}:not([aria-label])`)
      .forEach((element) => element.setAttribute("aria-label", `${name} ${element.id}`.trim()));
  }
  for (const element of document.querySelectorAll("pre.microlight")) element.tabIndex = 0;
}).observe(document.getElementById("swagger-ui"), { childList: true, subtree: true });
