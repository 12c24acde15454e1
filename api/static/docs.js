// Starts Swagger UI: a file of its own, so that the page needs no inline script.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
  layout: "BaseLayout",
  // Swagger UI gives this list no label.
  onComplete: () => document.querySelector("#servers")?.setAttribute("aria-label", "Server"),
});
