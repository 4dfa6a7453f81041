// The model that answers: facts, cells, card; and the table of registered versions.

import { by, make, percent } from "./dom.js";
import { rendered } from "./card.js";

const COLUMNS = [
  ["balanced_accuracy", "Balanced accuracy"], ["accuracy", "Accuracy"], ["macro_f1", "Macro F1"],
  ["auroc_macro", "AUROC"], ["ece", "Calibration error"],
];

/** Show what answers; see /page/model. */
export function describe(model) {
  by("served").textContent = `${model.model} version ${model.version}: ${model.network}, trained on ${model.dataset}`;
  document.title = `${model.model} version ${model.version} · dermonas`;
  by("synthetic").hidden = !model.synthetic;
  const abstains = [];
  if (model.abstain_below > 0) {
    abstains.push(`where the largest probability is below ${percent(model.abstain_below)}${rule(model.abstain_rule)}`);
  }
  if (model.unfamiliar_above !== null) {
    abstains.push(`where an image is farther than ${model.unfamiliar_above.toPrecision(3)} from the training images`
      + rule(model.unfamiliar_rule));
  }
  const facts = [
    ["Model", `${model.model}, version ${model.version}`],
    ["Network", `${model.network}; sees ${model.size} × ${model.size} px of an image at ${model.stored} × ${model.stored}`],
    ["Labels", model.classes.join(", ")],
    ["Data", `${model.dataset}${model.synthetic ? " (synthetic)" : ""}, manifest `, make("code", {}, model.dataset_digest.slice(0, 16))],
    ["Calibration", `logits divided by ${model.temperature.toFixed(3)}`],
    ["Abstains", abstains.join("; ") || "never"],
    ["Files", make("code", {}, model.digest.slice(0, 16)), ", as the registry recorded them"],
  ];
  by("facts").replaceChildren(...facts.flatMap(([name, ...values]) =>
    [make("dt", {}, name), make("dd", {}, ...values)]));
  by("card").replaceChildren(...rendered(model.card));
}

const rule = (text) => (text ? ` (${text})` : "");

let drawings = []; // object URLs

/** Show the drawings of its cells; see /page/cells. A drawing is an image, in which no script runs. */
export function drawn(found) {
  drawings.forEach((url) => URL.revokeObjectURL(url));
  drawings = found.cells.map((cell) => URL.createObjectURL(new Blob([cell.svg], { type: "image/svg+xml" })));
  const figures = found.cells.map((cell, number) => make("figure", {},
    make("div", { class: "wide", tabindex: 0, role: "region", "aria-label": cell.title },
      make("img", { src: drawings[number], alt: cell.text })), make("figcaption", { class: "facts" }, cell.title)));
  by("cells").replaceChildren(...(figures.length ? figures : [make("p", {}, found.why)]));
}

/** Show the registered versions; see /page/versions. */
export function tabulate(found, model) {
  const head = ["Version", "Network", "Validation", ...COLUMNS.map(([, title]) => title), "Parameters"];
  const text = (place) => (place < 2 ? "text" : false);
  const rows = found.versions.map((row) => make("tr", { class: row.version === model.version ? "served" : false },
    make("th", { scope: "row", class: "text" }, row.version, " ", ...badges(row, model),
      make("span", { class: "small" }, row.registered.slice(0, 10))),
    make("td", { class: "text reason" }, row.network ?? "unknown", ...remarks(row, model)),
    make("td", {}, number(row.validation), small(row.images && `${row.images} images`)),
    ...COLUMNS.map(([key]) => figure(row.figures[key])),
    make("td", {}, row.cost.params_m === null ? "–" : `${row.cost.params_m.toPrecision(3)} M`)));
  const note = "Figures of the test images, with 95 % intervals; validation is the balanced accuracy by which "
    + "champions are chosen. Only versions of the same data can be compared.";
  by("table").replaceChildren(make("p", { class: "facts", id: "versions-note" }, rows.length ? note : "None."),
    make("div", { class: "wide", tabindex: 0, role: "region", "aria-labelledby": "versions-title" },
      make("table", { "aria-labelledby": "versions-title", "aria-describedby": "versions-note", hidden: !rows.length },
        make("thead", {}, make("tr", {}, ...head.map((title, place) => make("th", { scope: "col", class: text(place) }, title)))),
        make("tbody", {}, ...rows))));
}

function badges(row, model) {
  const found = [];
  if (row.champion) found.push(make("span", { class: "badge" }, "champion"), " ");
  if (row.version === model.version) found.push(make("span", { class: "badge" }, "answers here"), " ");
  return found;
}

function remarks(row, model) {
  const found = [];
  if (row.synthetic) found.push("synthetic images");
  if (row.dataset_digest !== model.dataset_digest) found.push("other data than the version that answers");
  if (row.reason) found.push(`${row.champion ? "Champion" : "When registered"}: ${row.reason}`);
  return found.map((remark) => small(remark));
}

const small = (text) => (text ? make("span", { class: "small" }, text) : "");
const number = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));

function figure(one) {
  if (!one) return make("td", {}, "–");
  const bounds = one.lo === null || one.hi === null ? "" : `${number(one.lo)} to ${number(one.hi)}`;
  return make("td", {}, number(one.value), small(bounds));
}
