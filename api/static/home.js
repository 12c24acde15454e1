// Starts the page: loads the model, shows one of the views, asks for a key when one is needed.

import { explain, getJson, hasKey, onKeyNeeded, setKey } from "./client.js";
import { alertBox, h } from "./dom.js";
import { oneView } from "./one.js";
import { batchView } from "./batch.js";
import { batchesView } from "./batches.js";
import { fileView } from "./file.js";
import { capital } from "./words.js";

const main = document.querySelector("#view");
const nav = document.querySelector("#views");

onKeyNeeded(askForKey);
start();

async function start() {
  main.replaceChildren(h("p", { class: "hint" }, "Loading …"));
  try {
    show(withDefaults(await getJson("model")));
  } catch (error) {
    const again = h("button", { type: "button", onclick: start }, "Try again");
    main.replaceChildren(alertBox("bad", ...explain(error), again));
  }
}

function withDefaults(model) {
  const noun = model.noun ?? "record";
  return {
    ...model,
    noun,
    nouns: model.nouns ?? `${noun}s`,
    outcome: model.outcome ?? "the outcome",
    record_id: model.record_id ?? "id",
  };
}

function show(model) {
  const [title, detail] = model.title.split(/\s*\((.*)\)$/);
  document.title = title || model.name;
  document.querySelector("#title").textContent = title || model.name;
  document.querySelector("#subtitle").textContent = detail ? capital(detail) : "";
  document.querySelector("#notice").textContent = model.notice;
  document.querySelector("#notice").hidden = !model.notice;
  document.querySelector("#about").textContent = `Model ${model.name} ${model.version}`;
  nav.querySelector("[href='#one']").textContent = `One ${model.noun}`;
  nav.hidden = false;

  const views = { one: oneView(model), file: fileView(model), batches: batchesView(model) };
  let followed;

  function route() {
    const [name, id] = location.hash.slice(1).split("=");
    followed?.stop();
    views.batches.stop();
    followed = name === "batch" && id ? batchView(model, decodeURIComponent(id)) : undefined;
    const current = followed ? "batches" : name in views ? name : "one";
    for (const link of nav.querySelectorAll("a")) {
      link.toggleAttribute("aria-current", link.hash === `#${current}`);
      if (link.hash === `#${current}`) link.setAttribute("aria-current", "page");
    }
    const view = followed ?? views[current];
    main.replaceChildren(view.element);
    view.start?.();
  }

  addEventListener("hashchange", route);
  route();
}

let asking;

/** Ask for a key, once for all requests that need one. `wrong`: the one we had was refused. */
function askForKey(wrong) {
  asking ??= asked(wrong).finally(() => (asking = undefined));
  return asking;
}

function asked(wrong) {
  return new Promise((resolve) => {
    const input = h("input", { id: "key", type: "password", autocomplete: "off", required: true });
    const answer = (given) => {
      if (given) setKey(input.value.trim());
      dialog.remove();
      resolve(given);
    };
    const dialog = h(
      "dialog",
      { "aria-labelledby": "key-title", oncancel: () => answer(false) },
      h(
        "form",
        {
          onsubmit: (event) => {
            event.preventDefault();
            answer(input.value.trim() !== "");
          },
        },
        h("h2", { id: "key-title" }, "A key is needed"),
        wrong && h("p", { class: "warning", role: "alert" }, "This key was not accepted."),
        h("p", {}, "Enter one of the operator's API keys. It stays in this tab."),
        h("label", { for: "key" }, "API key"),
        input,
        h(
          "div",
          { class: "buttons" },
          h("button", { type: "submit" }, "Continue"),
          h("button", { type: "button", class: "quiet", onclick: () => answer(false) }, "Cancel"),
        ),
      ),
    );
    if (wrong && hasKey()) setKey("");
    document.body.append(dialog);
    dialog.showModal();
  });
}
