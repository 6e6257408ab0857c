// The demo page: shows the mask of a photo.

import { mayDiscard, openEditor } from "./editor.js";
import { byId, make } from "./elements.js";
import { draw, fit } from "./mask.js";
import { readMask } from "./png.js";
import { acceptsSamples, activate, command, key, models, segment } from "./service.js";

const DOWNLOADS = [
  ["png", "Mask", "mask.png"],
  ["overlay", "Overlay", "overlay.png"],
  ["confidence", "Confidence", "confidence.png"],
  ["coco", "COCO", "coco.json"],
  ["polygons", "Polygons", "polygons.json"],
  ["label-studio", "Label Studio", "label-studio.json"],
  ["cvat", "CVAT", "cvat.json"],
  ["json", "JSON", "result.json"],
];
const SAMPLES = [
  ["page/samples/cat.jpg", "A cat"],
  ["page/samples/astronaut.jpg", "An astronaut"],
];

const LIKELY = 0.1; // probability of a tag that is suggested

let input = null; // { photo: Blob, name }
let running = null; // AbortController of the current request
let photoUrl = "";
let mask = null; // of the latest result, as read from PNG

function showStatus(text, isError = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", isError);
}

function showError(error) {
  const first = error.status === 401 && !key.get();
  showStatus(first ? "This service requires an API key." : error.message, !first);
  if (error.status === 401) {
    byId("keys").hidden = false;
    byId("key").focus();
  }
}

function currentJob() {
  const tags = [...byId("tags").querySelectorAll(":checked")].map((box) => box.value);
  return { ...input, tags, refine: byId("refine").checked ? "crf" : "smooth" };
}

async function showModels() {
  const known = await models();
  const current = known.find((model) => model.serving);
  const usable = known.filter((model) => !model.fault);
  byId("models").hidden = usable.length < 2;
  byId("model").replaceChildren(
    ...usable.map((model) => {
      const text = `${model.version} (${model.created.slice(0, 10)})`;
      return make("option", { value: model.version, selected: model.serving }, text);
    }),
  );
  const chosen = new Set(currentJob().tags);
  byId("tags").replaceChildren(
    ...(current?.classes.slice(1) ?? []).map((name) => {
      const box = make("input", { type: "checkbox", value: name, checked: chosen.has(name) });
      return make("label", {}, box, ` ${name}`);
    }),
  );
}

async function run() {
  if (!input) return;
  running?.abort();
  const controller = (running = new AbortController());
  const job = currentJob();
  byId("result").classList.add("busy");
  byId("correct").disabled = true;
  showStatus("Segmenting …");
  try {
    const start = performance.now();
    const result = await (await segment(job, "json", controller.signal)).json();
    const seconds = (performance.now() - start) / 1000;
    const painted = await readMask(result.mask.base64);
    if (controller !== running) return;
    mask = painted;
    showResult(job, result);
    const objects = result.classes.filter((each) => each.label !== 0);
    const names = objects.filter((each) => each.painted).map((each) => each.name);
    const found = `${names.length ? `Found ${names.join(", ")}` : "Nothing found"} in ${seconds.toFixed(2)} s.`;
    const missing = objects.filter((each) => !each.painted).map((each) => ` ${each.name} is painted nowhere.`);
    showStatus(found + missing.join("") + (result.low_confidence ? " Low confidence: the mask may be wrong." : ""));
  } catch (error) {
    if (controller === running && error.name !== "AbortError") showError(error);
  } finally {
    if (controller === running) byId("result").classList.remove("busy");
  }
}

function showResult(job, result) {
  fit(byId("mask"), mask);
  draw(byId("mask"), mask, mask.colours.with(0, undefined));
  byId("result").hidden = false;
  byId("correct").disabled = false;
  showSuggestions(job, result.tags);
  byId("legend").replaceChildren(
    ...result.classes.map((each) => {
      const chip = make("span", { className: "chip" });
      chip.style.background = `rgb(${each.colour.join(" ")})`;
      const share = `${(100 * each.share).toFixed(1)}%`;
      const confidence = `${Math.round(100 * each.confidence)}%`;
      const name = make("th", { scope: "row" }, chip, each.name);
      return make("tr", {}, name, make("td", {}, share), make("td", {}, confidence));
    }),
  );
  byId("curl").textContent = command(job, "png", "mask.png");
  byId("downloads").replaceChildren(
    "Download",
    ...DOWNLOADS.map(([format, label, file]) => {
      const button = make("button", { type: "button", id: `download-${format}` }, label);
      button.addEventListener("click", () => download(job, format, file));
      return button;
    }),
  );
}

function showSuggestions(job, tags) {
  const likely = tags.filter((tag) => tag.probability >= LIKELY && !job.tags.includes(tag.name));
  byId("suggestions").hidden = !likely.length;
  byId("suggestions").replaceChildren(
    "Suggested by the model",
    ...likely.map((tag) => {
      const button = make("button", { type: "button" }, `${tag.name} ${Math.round(100 * tag.probability)}%`);
      button.addEventListener("click", () => {
        for (const box of byId("tags").querySelectorAll("input")) box.checked ||= box.value === tag.name;
        run();
      });
      return button;
    }),
  );
}

async function download(job, format, file) {
  try {
    const blob = await (await segment(job, format)).blob();
    const link = make("a", { href: URL.createObjectURL(blob), download: file });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    byId("curl").textContent = command(job, format, file);
  } catch (error) {
    showError(error);
  }
}

async function correct() {
  try {
    await openEditor(currentJob(), mask);
  } catch (error) {
    showError(error);
  }
}

function setPhoto(photo, name) {
  if (byId("editor").open || !mayDiscard()) return;
  input = { photo, name };
  URL.revokeObjectURL(photoUrl);
  photoUrl = URL.createObjectURL(photo);
  for (const id of ["photo", "under"]) byId(id).src = photoUrl;
  run();
}

async function loadSample(path) {
  showStatus("Loading the sample …");
  try {
    setPhoto(await (await fetch(path)).blob(), path.split("/").pop());
  } catch {
    showStatus("The sample could not be loaded.", true);
  }
}

function addListeners() {
  byId("file").addEventListener("change", () => {
    const file = byId("file").files[0];
    if (file) setPhoto(file, file.name);
    byId("file").value = ""; // so that the same one can be chosen again
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      byId("drop").classList.toggle("over", kind === "dragover");
      const file = kind === "drop" && event.dataTransfer.files[0];
      if (file) setPhoto(file, file.name);
    });
  }
  document.addEventListener("paste", (event) => {
    const file = event.clipboardData.files[0];
    if (file) setPhoto(file, file.name || "pasted.png");
  });
  byId("options").addEventListener("change", run);
  byId("options").addEventListener("submit", (event) => event.preventDefault());
  byId("opacity").addEventListener("input", () => (byId("mask").style.opacity = byId("opacity").value / 100));
  byId("mask").style.opacity = byId("opacity").value / 100;
  byId("correct").addEventListener("click", correct);
  byId("keys").addEventListener("submit", (event) => {
    event.preventDefault();
    key.set(byId("key").value.trim());
    start();
  });
  byId("model").addEventListener("change", switchModel);
  byId("copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText(byId("curl").textContent);
    showStatus("Command copied.");
  });
  byId("samples").append(
    ...SAMPLES.map(([path, name]) => {
      const button = make("button", { type: "button" }, make("img", { src: path, alt: name }));
      button.addEventListener("click", () => loadSample(path));
      return button;
    }),
  );
}

async function switchModel() {
  const version = byId("model").value;
  showStatus(`Switching to model ${version} for all users …`);
  try {
    await activate(version);
    await showModels();
    showStatus(`Model ${version} is now being served.`);
    await run();
  } catch (error) {
    await showModels().catch(() => {});
    showError(error);
  }
}

async function start() {
  try {
    await showModels();
    byId("keys").hidden = true;
    byId("correct").hidden = !(await acceptsSamples());
    showStatus("");
    await run();
  } catch (error) {
    showError(error);
  }
}

addListeners();
start();
