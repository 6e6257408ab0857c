// The page: a photo in, what the service paints out.

import { paint } from "./painting.js";
import { activate, command, key, models, segment } from "./service.js";

const DOWNLOADS = [
  ["png", "Mask", "mask.png"],
  ["overlay", "Overlay", "overlay.png"],
  ["confidence", "Confidence", "confidence.png"],
  ["coco", "COCO", "coco.json"],
  ["polygons", "Polygons", "polygons.json"],
  ["label-studio", "Label Studio", "label-studio.json"],
  ["cvat", "CVAT", "cvat.json"],
  ["json", "JSON", "answer.json"],
];
const SAMPLES = [
  ["page/samples/cat.jpg", "A cat"],
  ["page/samples/astronaut.jpg", "An astronaut"],
];

const at = (id) => document.getElementById(id);
let given = null; // { photo: Blob, name }
let running = null; // AbortController of the request under way
let shownUrl = "";

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function tell(text, fault = false) {
  at("status").textContent = text;
  at("status").classList.toggle("fault", fault);
}

function refuse(fault) {
  tell(fault.message, true);
  if (fault.status === 401) {
    at("keys").hidden = false;
    at("key").focus();
  }
}

function order() {
  const tags = [...at("tags").querySelectorAll(":checked")].map((box) => box.value);
  return { ...given, tags, refine: at("refine").checked ? "crf" : "none" };
}

async function showModels() {
  const known = await models();
  const current = known.find((model) => model.serving);
  const usable = known.filter((model) => !model.fault);
  at("models").hidden = usable.length < 2;
  at("model").replaceChildren(
    ...usable.map((model) => {
      const text = `${model.version} (${model.created.slice(0, 10)})`;
      return make("option", { value: model.version, selected: model.serving }, text);
    }),
  );
  const chosen = new Set(order().tags);
  at("tags").replaceChildren(
    ...current.classes.slice(1).map((name) => {
      const box = make("input", { type: "checkbox", value: name, checked: chosen.has(name) });
      return make("label", {}, box, ` ${name}`);
    }),
  );
}

async function run() {
  if (!given) return;
  running?.abort();
  const mine = (running = new AbortController());
  const asked = order();
  at("result").classList.add("busy");
  tell("Painting …");
  try {
    const began = performance.now();
    const answer = await (await segment(asked, "json", mine.signal)).json();
    const seconds = (performance.now() - began) / 1000;
    await show(asked, answer);
    const found = answer.classes.filter((each) => each.label !== 0).map((each) => each.name);
    tell(`${found.length ? `Found ${found.join(", ")}` : "Nothing found"} in ${seconds.toFixed(2)} s.`);
  } catch (fault) {
    if (mine === running && fault.name !== "AbortError") refuse(fault);
  } finally {
    if (mine === running) at("result").classList.remove("busy");
  }
}

async function show(asked, answer) {
  const background = answer.classes.find((each) => each.label === 0)?.colour ?? [0, 0, 0];
  await paint(at("mask"), answer.mask.base64, background);
  at("result").hidden = false;
  at("legend").replaceChildren(
    ...answer.classes.map((each) => {
      const chip = make("span", { className: "chip" });
      chip.style.background = `rgb(${each.colour.join(" ")})`;
      const share = `${(100 * each.share).toFixed(1)}%`;
      const confidence = `${Math.round(100 * each.confidence)}%`;
      const name = make("th", { scope: "row" }, chip, each.name);
      return make("tr", {}, name, make("td", {}, share), make("td", {}, confidence));
    }),
  );
  at("curl").textContent = command(asked, "png", "mask.png");
  at("downloads").replaceChildren(
    "Download",
    ...DOWNLOADS.map(([format, label, file]) => {
      const button = make("button", { type: "button", id: `download-${format}` }, label);
      button.addEventListener("click", () => download(asked, format, file));
      return button;
    }),
  );
}

async function download(asked, format, file) {
  try {
    const blob = await (await segment(asked, format)).blob();
    const link = make("a", { href: URL.createObjectURL(blob), download: file });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    at("curl").textContent = command(asked, format, file);
  } catch (fault) {
    refuse(fault);
  }
}

function take(photo, name) {
  given = { photo, name };
  URL.revokeObjectURL(shownUrl);
  shownUrl = URL.createObjectURL(photo);
  for (const id of ["photo", "under"]) at(id).src = shownUrl;
  run();
}

async function takeSample(path) {
  tell("Loading the sample …");
  try {
    take(await (await fetch(path)).blob(), path.split("/").pop());
  } catch {
    tell("The sample could not be loaded.", true);
  }
}

function wire() {
  at("file").addEventListener("change", () => at("file").files[0] && take(at("file").files[0], at("file").files[0].name));
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      at("drop").classList.toggle("over", kind === "dragover");
      const file = kind === "drop" && event.dataTransfer.files[0];
      if (file) take(file, file.name);
    });
  }
  document.addEventListener("paste", (event) => {
    const file = event.clipboardData.files[0];
    if (file) take(file, file.name || "pasted.png");
  });
  at("options").addEventListener("change", run);
  at("options").addEventListener("submit", (event) => event.preventDefault());
  at("opacity").addEventListener("input", () => (at("mask").style.opacity = at("opacity").value / 100));
  at("mask").style.opacity = at("opacity").value / 100;
  at("keys").addEventListener("submit", (event) => {
    event.preventDefault();
    key.set(at("key").value.trim());
    start();
  });
  at("model").addEventListener("change", switchModel);
  at("copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText(at("curl").textContent);
    tell("Command copied.");
  });
  at("samples").append(
    ...SAMPLES.map(([path, name]) => {
      const button = make("button", { type: "button" }, make("img", { src: path, alt: name }));
      button.addEventListener("click", () => takeSample(path));
      return button;
    }),
  );
}

async function switchModel() {
  const version = at("model").value;
  tell(`Switching to model ${version}, for everyone …`);
  try {
    await activate(version);
    await showModels();
    tell(`Model ${version} serves now.`);
    await run();
  } catch (fault) {
    await showModels().catch(() => {});
    refuse(fault);
  }
}

async function start() {
  try {
    await showModels();
    at("keys").hidden = true;
    tell("");
    await run();
  } catch (fault) {
    refuse(fault);
  }
}

wire();
start();
