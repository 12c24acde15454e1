// The form of one record, made from the field table.

import { h } from "./dom.js";
import { capital } from "./words.js";
import { checkNumber, groups, plain, range } from "./values.js";

const RADIOS = 4; // choices up to which all are shown at once

/** Builds the form. `onChange` is called after each change. */
export class RecordForm {
  constructor(model, onChange) {
    this.inputs = new Map(model.fields.map((field) => [field.name, inputOf(field, onChange)]));
    const { required, optional, unused } = groups(model.fields);
    const rows = (fields) => fields.map(({ name }) => this.inputs.get(name).element);
    this.element = h(
      "form",
      {
        class: "record",
        noValidate: true,
        autocomplete: "off",
        onsubmit: (event) => event.preventDefault(),
      },
      section("Required", "", required, rows),
      section("Optional", "Leave out what you do not know. Nothing is filled in.", optional, rows),
      unused.length > 0 &&
        h(
          "details",
          { class: "unused" },
          h("summary", {}, `${unused.length} more that the model does not use`),
          h("p", { class: "hint" }, "They are checked but do not change the score."),
          rows(unused),
        ),
    );
  }

  /** The record to send, the required fields that are still empty, and the number of refused inputs. */
  read() {
    const record = {};
    const lacking = [];
    let refused = 0;
    for (const { field, read } of this.inputs.values()) {
      const { state, value } = read();
      if (state === "refused") refused += 1;
      else if (state !== "empty") record[field.name] = value;
      else if (field.required) lacking.push(field);
    }
    return { record, lacking, refused };
  }

  /** Show a record; fields that it lacks become empty. */
  fill(record) {
    for (const { field, write } of this.inputs.values()) write(record[field.name]);
  }

  /** Show what the server says of fields, by name. */
  complain(errors) {
    for (const { field, detail } of errors) this.inputs.get(field)?.complain(detail);
  }
}

function section(title, text, fields, rows) {
  return (
    fields.length > 0 &&
    h("section", {}, h("h3", {}, title), text && h("p", { class: "hint" }, text), rows(fields))
  );
}

function inputOf(field, onChange) {
  if (field.kind === "number") return numberInput(field, onChange);
  return field.choices.length <= RADIOS
    ? radioInput(field, onChange)
    : selectInput(field, onChange);
}

function numberInput(field, onChange) {
  const id = `field-${field.name}`;
  const message = h("p", { class: "message", id: `${id}-message` });
  const input = h("input", {
    id,
    type: "text",
    inputmode: "decimal",
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": `${id}-range ${id}-message`,
    "aria-required": field.required ? "true" : undefined,
    oninput: () => {
      show();
      onChange();
    },
  });
  const show = () => {
    const { state, message: text, fix } = checkNumber(field, input.value);
    element.dataset.state = state;
    input.setAttribute("aria-invalid", String(state === "refused"));
    message.replaceChildren(text ?? "", fix === undefined ? "" : useInstead(fix));
  };
  const useInstead = (fix) =>
    h(
      "button",
      {
        type: "button",
        class: "fix",
        onclick: () => {
          input.value = plain(fix);
          show();
          input.focus();
          onChange();
        },
      },
      `Use ${plain(fix)}`,
    );
  const element = h(
    "div",
    { class: "field" },
    h(
      "div",
      { class: "name" },
      h("label", { for: id }, field.title),
      h("span", { class: "range", id: `${id}-range` }, range(field.accept)),
    ),
    h(
      "div",
      { class: "control" },
      h(
        "div",
        { class: "with-unit" },
        input,
        field.unit && h("span", { class: "unit" }, field.unit),
      ),
      message,
    ),
  );
  return {
    field,
    element,
    read: () => checkNumber(field, input.value),
    write: (value) => {
      input.value = typeof value === "number" ? plain(value) : (value ?? "");
      show();
    },
    complain: (text) => {
      element.dataset.state = "refused";
      message.replaceChildren(text);
    },
  };
}

const titleOf = ({ title, word, code }) =>
  capital(title || word?.replaceAll("_", " ") || String(code));

function choiceOf(field, value) {
  const code = typeof value === "boolean" ? Number(value) : value;
  return field.choices.find((choice) => choice.code === code || choice.word === code);
}

function sent(choice) {
  return choice ? { state: "fine", value: choice.word ?? choice.code } : { state: "empty" };
}

function radioInput(field, onChange) {
  const id = `field-${field.name}`;
  const message = h("p", { class: "message" });
  const radio = (value, title) =>
    h(
      "label",
      {},
      h("input", {
        type: "radio",
        name: id,
        value,
        checked: value === "" && !field.required,
        onchange: onChange,
      }),
      h("span", {}, title),
    );
  const choices = field.choices.map((choice) => radio(String(choice.code), titleOf(choice)));
  const group = h(
    "div",
    {
      class: "choices",
      role: "radiogroup",
      "aria-labelledby": id,
      "aria-required": field.required ? "true" : undefined,
    },
    field.required ? [] : radio("", "Not known"),
    choices,
  );
  const radios = [...group.querySelectorAll("input")];
  return {
    field,
    element: h(
      "div",
      { class: "field wide" },
      h("div", { class: "name", id }, field.title),
      h("div", { class: "control" }, group, message),
    ),
    read: () => {
      const value = radios.find(({ checked }) => checked)?.value ?? "";
      return sent(value === "" ? undefined : choiceOf(field, Number(value)));
    },
    write: (value) => {
      const code = String(choiceOf(field, value)?.code ?? "");
      for (const one of radios) one.checked = one.value === code;
    },
    complain: (text) => message.replaceChildren(text),
  };
}

function selectInput(field, onChange) {
  const id = `field-${field.name}`;
  const message = h("p", { class: "message" });
  const select = h(
    "select",
    { id, onchange: onChange },
    h("option", { value: "" }, field.required ? "Choose" : "Not known"),
    field.choices.map((choice) => h("option", { value: String(choice.code) }, titleOf(choice))),
  );
  return {
    field,
    element: h(
      "div",
      { class: "field" },
      h("div", { class: "name" }, h("label", { for: id }, field.title)),
      h("div", { class: "control" }, select, message),
    ),
    read: () => sent(select.value === "" ? undefined : choiceOf(field, Number(select.value))),
    write: (value) => {
      select.value = String(choiceOf(field, value)?.code ?? "");
    },
    complain: (text) => message.replaceChildren(text),
  };
}

/** "63 years", "Male": a value of a record in words. */
export function inWords(field, value) {
  if (field.kind === "number") return `${plain(value)} ${field.unit}`.trim();
  return titleOf(choiceOf(field, value) ?? { code: value });
}
