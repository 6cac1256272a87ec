// Swagger UI, as BentoML brings it, for the service's OpenAPI document.
window.SwaggerUIBundle({
  url: "docs.json",
  dom_id: "#swagger-ui",
  validatorUrl: null, // nothing is asked outside
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: true,
});
