// Starts ReDoc. Its search would need a worker made from a blob, which the page's policy refuses.
Redoc.init("openapi.json", { disableSearch: true, hideLogo: true }, document.getElementById("page"));
