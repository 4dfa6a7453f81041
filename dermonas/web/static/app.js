// The page: takes files, asks the server about each, and shows what it says.

import { refuse, show, waiting } from "./answer.js";
import { by, bytes, make, percent } from "./dom.js";
import { describe, drawn, tabulate } from "./model.js";
import { ask, enter, get, sizeOf } from "./server.js";

const AT_ONCE = 3; // requests; the server gathers them into batches
const queue = [];
let model = null;
let running = 0;
let [done, total] = [0, 0];
let round = 0; // answers to files that were cleared away are of an older one
let urls = [];

async function load() {
  try {
    model = await get("/page/model");
  } catch (error) {
    by("served").textContent = `No model: ${error.message}.`;
    by("entry").hidden = error.status !== 401;
    if (error.status === 401) by("token").focus();
    return;
  }
  by("entry").hidden = true;
  describe(model);
  const most = bytes(0.75 * model.limits.body_bytes);
  by("limits").textContent = "JPEG, PNG, WebP, TIFF, BMP or DICOM, each of at most "
    + `${most} and ${model.limits.pixels / 1e6} million pixels. They are sent to this server alone, which does not keep them.`;
  await Promise.all([
    fill("cells", "/page/cells", drawn),
    fill("table", "/page/versions", (found) => tabulate(found, model)),
  ]);
}

async function fill(id, path, put) {
  try {
    put(await get(path));
  } catch (error) {
    by(id).replaceChildren(make("p", { class: "facts" }, `Not available: ${error.message}.`));
  }
}

function add(files) {
  const places = [...files].map((file) => ({ file, place: waiting(file), round }));
  if (!places.length) return;
  by("results").prepend(...places.map((one) => one.place));
  by("clear").hidden = false;
  total += places.length;
  queue.push(...places);
  tell("");
  while (running < AT_ONCE && queue.length) work();
}

async function work() {
  running += 1;
  while (queue.length) {
    const one = queue.shift();
    const line = await answered(one);
    if (one.round !== round) continue;
    done += 1;
    tell(line);
  }
  running -= 1;
}

/** Ask about one file, show what comes of it, and return it in a line. */
async function answered({ file, place, round: asked }) {
  try {
    if (!model) throw new Error("no model answers yet");
    if (sizeOf(file) > model.limits.body_bytes) {
      throw new Error(`the file is larger than ${bytes(0.75 * model.limits.body_bytes)}`);
    }
    const answer = await ask(file, model.classes.length);
    if (asked !== round) return "";
    if (answer.version !== model.version) await load(); // another champion took over
    const url = URL.createObjectURL(file);
    urls.push(url);
    await show(place, file, answer, model, url);
    const what = answer.abstain ? "the model abstains" : `${answer.label}, ${percent(answer.probability)}`;
    return `${file.name}: ${what}.`;
  } catch (error) {
    if (error.status === 401) by("entry").hidden = false;
    refuse(place, file, error.message);
    return `${file.name}: not answered.`;
  }
}

function tell(line) {
  by("status").textContent = `${line} ${total ? `${done} of ${total} done.` : ""}`.trim();
}

function clear() {
  round += 1;
  queue.length = 0;
  [done, total] = [0, 0];
  urls.forEach((url) => URL.revokeObjectURL(url));
  urls = [];
  by("results").replaceChildren();
  by("clear").hidden = true;
  tell("");
  by("files").focus();
}

by("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = ""; // the same file may be chosen again
});
by("clear").addEventListener("click", clear);
by("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(by("token").value.trim());
  by("token").value = "";
  load();
});
const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    by("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) by("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  by("drop").classList.remove("over");
  add(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) add(event.clipboardData.files);
});
load();
