// One image's answer: the picture with its map, label bars, uncertainty, and why the model abstains.

import { bytes, make, percent } from "./dom.js";
import { paint, SCALE } from "./heat.js";

const SHOWN = 8; // bars; further labels unfold
const FORMATS = "a TIFF or DICOM file, or no image";
let opacity = 60; // per cent, of the next map; the last slider that was moved says

/** Return the entropy of probabilities over its largest value, 0 to 1. */
export function uncertainty(shares) {
  const sum = shares.reduce((total, share) => total + (share > 0 ? share * Math.log(share) : 0), 0);
  return shares.length > 1 ? Math.max(0, -sum / Math.log(shares.length)) : 0;
}

/** Return a place in the list for a file that is being asked about. */
export function waiting(file) {
  return make("li", { class: "box", "aria-busy": "true" },
    make("h3", {}, file.name), make("p", { class: "facts" }, `${bytes(file.size)} · asking …`));
}

/** Show that a file was not answered, and why. */
export function refuse(place, file, line) {
  place.removeAttribute("aria-busy");
  place.classList.add("refused");
  place.replaceChildren(
    make("h3", {}, file.name),
    make("p", {}, make("strong", {}, "Not answered: "), line.replace(/^row 0: /, "")),
  );
}

/**
 * Show an answer.
 * @param {HTMLElement} place Of `waiting`.
 * @param {File} file Which was asked about.
 * @param {object} answer The server's.
 * @param {object} model What /page/model says.
 * @param {string} url Object URL of the file.
 */
export async function show(place, file, answer, model, url) {
  const facts = make("p", { class: "facts" }, `${bytes(file.size)} · ${answer.model} version ${answer.version}`);
  const picture = await pictured(file, answer, url, facts);
  place.removeAttribute("aria-busy");
  place.replaceChildren(
    make("h3", {}, file.name), facts,
    make("div", { class: "answer" }, picture, make("div", { class: "said" }, ...said(answer, model))),
  );
}

function said(answer, model) {
  const shares = answer.probabilities.map((one) => one.probability);
  const parts = [];
  if (answer.abstain) {
    parts.push(make("div", { class: "abstains" },
      make("p", {}, make("strong", {}, "The model abstains.")),
      make("p", {}, `Why: ${answer.reason}`),
      make("p", {}, `Nearest label, not to be relied on: ${answer.label}, ${percent(answer.probability)}`)));
  } else {
    parts.push(make("p", { class: "verdict" }, make("strong", {}, answer.label), ` ${percent(answer.probability)}`));
  }
  const bars = answer.probabilities.map((one) => bar(one, model.abstain_below));
  parts.push(list(bars.slice(0, SHOWN)));
  if (bars.length > SHOWN) {
    parts.push(make("details", {},
      make("summary", {}, `${bars.length - SHOWN} more labels`), list(bars.slice(SHOWN))));
  }
  if (model.abstain_below > 0) {
    parts.push(make("p", { class: "facts" },
      make("span", { class: "tick", "aria-hidden": "true" }), ` abstains below ${percent(model.abstain_below)}`));
  }
  const doubt = uncertainty(shares);
  const fill = make("span", { class: "fill" });
  fill.style.width = `${100 * doubt}%`;
  parts.push(make("p", { class: "doubt" }, `Uncertainty ${doubt.toFixed(2)} `,
    make("span", { class: "track", "aria-hidden": "true" }, fill), make("span", { class: "facts" }, " of 1")));
  return parts;
}

const list = (bars) => make("ul", { class: "bars", "aria-label": "Probabilities" }, ...bars);

function bar({ label, probability }, threshold) {
  const fill = make("span", { class: "fill" });
  fill.style.width = `${100 * probability}%`;
  const track = make("span", { class: "track", "aria-hidden": "true" }, fill);
  if (threshold > 0) {
    const line = make("span", { class: "threshold" });
    line.style.left = `${100 * threshold}%`;
    track.append(line);
  }
  return make("li", {}, make("span", { class: "name" }, label), " ", track, " ",
    make("span", { class: "share" }, percent(probability)));
}

/** Return the image with its map above it and a slider. */
async function pictured(file, answer, url, facts) {
  const image = make("img", { alt: `The image ${file.name}`, src: url });
  const canvas = make("canvas", { role: "img", "aria-label": `Class activation map of ${answer.label}` });
  const stack = make("div", { class: "stack" });
  const figure = make("figure", { class: "picture" }, stack);
  const notes = [];
  try {
    await image.decode();
    stack.append(image);
    stack.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
    facts.prepend(`${image.naturalWidth} × ${image.naturalHeight} px · `);
  } catch {
    notes.push(`This browser cannot show the file (${FORMATS} that it knows); the map stands alone, squashed to a square.`);
  }
  let hidden = false;
  try {
    hidden = await paint(canvas, answer.cam);
  } catch {
    notes.push("There is no map for this model: its network does not end in pooling and a linear layer.");
    figure.append(make("figcaption", { class: "facts" }, notes.join(" ")));
    return figure;
  }
  stack.append(canvas);
  const slider = make("input", { type: "range", min: 0, max: 100, step: 5, value: opacity });
  const output = make("output", {});
  const lay = () => {
    const share = slider.value / 100;
    canvas.style.opacity = share;
    image.style.filter = `grayscale(${share})`; // so that colour comes to mean activation alone
    output.value = `${slider.value} %`;
    slider.setAttribute("aria-valuetext", output.value);
  };
  slider.addEventListener("input", () => {
    opacity = Number(slider.value);
    lay();
  });
  lay();
  const scale = make("span", { class: "scale", "aria-hidden": "true" });
  scale.style.backgroundImage = SCALE;
  if (hidden) notes.push("The network does not see the border.");
  figure.append(
    make("label", { class: "slider" }, "Map opacity ", slider, " ", output),
    make("figcaption", { class: "facts" }, `Evidence for ${answer.label}: low `, scale, " high.",
      ...notes.map((note) => ` ${note}`)),
  );
  return figure;
}
