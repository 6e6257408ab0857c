// The dialog in which a person corrects the mask of a photo, and sends the correction.

import { Brush } from "./brush.js";
import { Correction, UNSAID } from "./correction.js";
import { byId, make } from "./elements.js";
import { draw, drawOutlines, fit } from "./mask.js";
import { encode } from "./png.js";
import { addSample } from "./service.js";

const NEW_COLOURS = [[255, 128, 0], [0, 200, 255], [255, 0, 200], [170, 255, 0]]; // of classes that the model lacks
const BACKGROUND_COLOUR = [110, 130, 165]; // visible on dark photos too, where black is not
const LARGEST = 0.3; // of the longer side: the largest diameter of the brush

let job = null; // { photo: Blob, name, tags, … }, of which the photo is corrected
let mask = null; // what the model paints
let correction = null;
let colours = [];
let value = UNSAID; // what the brush paints
let drawn = UNSAID; // what the stroke in progress paints
let unsent = false; // whether there are changes that have not been sent

const brush = new Brush(byId("painting"), byId("ring"), {
  begin(erases) {
    drawn = erases ? UNSAID : value;
    correction.begin();
  },
  line: (from, to) => redraw(correction.paint(drawn, from, to, diameter())),
  end() {
    correction.end();
    tell(drawn === UNSAID ? "Erased" : `${correction.names[drawn]} painted`, true);
  },
  cancel() {
    correction.cancel();
    redraw();
  },
});

// Whether changes that have not been sent may be lost; asks if there are any.
export function mayDiscard() {
  if (unsent) unsent = !confirm("Your correction has not been sent. Discard it?");
  return !unsent;
}

// Opens the dialog for `chosen`, a photo with its tags, and the mask of `readMask`. A correction that was begun goes
// on, unless it is that of another photo, or of other classes, and may be discarded. Throws an Error if the browser
// shows the photo in another size than the service, or not at all.
export async function openEditor(chosen, painted) {
  const image = byId("backdrop");
  image.src = byId("photo").src;
  await image.decode().catch(() => {});
  if (image.naturalWidth !== painted.width || image.naturalHeight !== painted.height) {
    throw new Error("This browser cannot show this photo as the service does. Save it as JPEG, and choose that.");
  }
  const same = job?.photo === chosen.photo && `${mask.names}` === `${painted.names}`;
  if (!same && !mayDiscard()) return;
  [job, mask] = [chosen, painted];
  byId("editor").showModal();
  if (!same) begin();
  drawOutlines(byId("outlines"), mask, mask.colours);
  byId("painting").focus();
}

function begin() {
  correction = new Correction(mask);
  colours = mask.colours.slice(0, mask.names.length).with(0, BACKGROUND_COLOUR);
  byId("sheet").style.setProperty("--ratio", mask.width / mask.height);
  fit(byId("painting"), mask);
  redraw();
  brush.reset(mask);
  showDiameter();
  setZoom(1);
  byId("labels").replaceChildren(...mask.names.map(labelButton), labelButton("Erase", UNSAID));
  choose(mask.names.length > 1 ? (mask.values.find((label) => label > 0) ?? 1) : 0);
  byId("said").textContent = "";
}

function labelButton(text, label) {
  const radio = make("input", { type: "radio", name: "label", value: label });
  const chip = make("span", { className: "chip" });
  if (label !== UNSAID) chip.style.background = `rgb(${colours[label].join(" ")})`;
  radio.addEventListener("change", () => choose(label));
  return make("label", {}, radio, chip, text);
}

function choose(label) {
  value = label;
  for (const radio of byId("labels").querySelectorAll("input")) radio.checked = Number(radio.value) === label;
  byId("completeness").hidden = label === UNSAID || label === 0;
  byId("completed").textContent = correction.names[label] ?? "";
  byId("complete").checked = correction.complete.has(label);
}

function addClass() {
  const text = byId("class").value.trim();
  if (!text) return;
  let label = correction.names.findIndex((each) => each.toLowerCase() === text.toLowerCase());
  if (label < 0) {
    if (correction.names.length >= UNSAID) return showFault(`A correction has at most ${UNSAID - 1} classes.`);
    label = correction.names.push(text) - 1;
    colours[label] = NEW_COLOURS[label % NEW_COLOURS.length];
    byId("labels").lastChild.before(labelButton(text, label));
  }
  byId("class").value = "";
  pick(label);
}

const redraw = (area) => draw(byId("painting"), correction, colours, area);

// Tells what happened and, if it `changed` the correction, how much is painted.
function tell(text, changed = false) {
  unsent ||= changed;
  const share = () => 1 - correction.counts[UNSAID] / correction.values.length;
  byId("said").textContent = changed ? `${text}. ${(100 * share()).toFixed(1)}% of the photo is painted.` : `${text}.`;
  byId("said").classList.remove("error");
}

function showFault(text) {
  byId("said").textContent = text;
  byId("said").classList.add("error");
}

// That of the brush in pixels, odd so that it is round about a pixel.
function diameter() {
  const largest = Math.max(1, LARGEST * Math.max(mask.width, mask.height));
  return 1 + 2 * Math.round((largest ** (byId("size").value / 100) - 1) / 2);
}

function showDiameter() {
  byId("diameter").textContent = `${diameter()} px`;
  brush.resize(diameter());
}

function setZoom(zoom) {
  const stage = byId("stage");
  const [x, y] = [
    (stage.scrollLeft + stage.clientWidth / 2) / stage.scrollWidth,
    (stage.scrollTop + stage.clientHeight / 2) / stage.scrollHeight,
  ];
  byId("zoom").value = zoom;
  byId("factor").textContent = `${Math.round(100 * byId("zoom").value)}%`;
  byId("sheet").style.setProperty("--zoom", byId("zoom").value);
  stage.scrollTo(x * stage.scrollWidth - stage.clientWidth / 2, y * stage.scrollHeight - stage.clientHeight / 2);
}

function move(back) {
  const moved = back ? correction.undo() : correction.redo();
  redraw();
  if (moved) tell(back ? "Undone" : "Redone", true);
  else tell(back ? "Nothing to undo" : "Nothing to redo");
}

function accept() {
  correction.begin();
  correction.fill(mask.values);
  correction.end();
  redraw();
  tell("Mask accepted", true);
}

async function send() {
  const counts = correction.counts;
  const shown = correction.names.filter((_, label) => label > 0 && counts[label]);
  const tags = [...new Set([...job.tags, ...shown])];
  const nothing = counts[0] === correction.values.length; // of the classes
  if (counts[UNSAID] === correction.values.length && !correction.complete.size) {
    return showFault("Nothing is painted yet. Paint something, or accept the mask.");
  }
  if (!tags.length && !nothing) {
    return showFault("Choose the tags of the photo, or paint all of it as background if it shows none of the classes.");
  }
  tell("Sending");
  byId("send").disabled = true;
  unsent = false; // what is painted meanwhile is
  try {
    const complete = [...correction.complete].map((label) => correction.names[label]);
    const sample = await addSample(
      { ...job, tags: tags.length ? tags : [correction.names[0]] },
      { png: await encode(correction), names: correction.names, complete },
    );
    tell(`Stored with the tags ${sample.tags.join(", ")}`);
  } catch (error) {
    unsent = true;
    showFault(error.message);
  } finally {
    byId("send").disabled = false;
  }
}

const KEYS = {
  z: (event) => move(!event.shiftKey),
  y: () => move(false),
  e: () => pick(UNSAID),
  "[": () => resize(-1),
  "]": () => resize(1),
  "+": () => zoomBy(1),
  "-": () => zoomBy(-1),
};

function pressKey(event) {
  const key = event.key.toLowerCase();
  const modified = (event.ctrlKey || event.metaKey || event.altKey) && !event.getModifierState("AltGraph");
  if (event.target.id === "class" || (modified && !"zy".includes(key))) return;
  if (key in KEYS) KEYS[key](event);
  else if (/^\d$/.test(key) && key < correction.names.length) pick(Number(key));
  else return;
  event.preventDefault();
}

function pick(label) {
  choose(label);
  tell(label === UNSAID ? "Eraser" : correction.names[label]);
}

function resize(direction) {
  const before = diameter();
  for (let steps = 0; steps < 5 || (diameter() === before && steps < 100); steps++) {
    byId("size").value = Number(byId("size").value) + direction;
  }
  showDiameter();
  tell(`Brush ${byId("diameter").textContent}`);
}

function zoomBy(steps) {
  setZoom(Number(byId("zoom").value) + steps);
  tell(`Zoom ${byId("factor").textContent}`);
}

byId("close").addEventListener("click", () => byId("editor").close());
byId("editor").addEventListener("keydown", pressKey);
byId("size").addEventListener("input", showDiameter);
byId("zoom").addEventListener("input", () => setZoom(byId("zoom").value));
byId("undo").addEventListener("click", () => move(true));
byId("redo").addEventListener("click", () => move(false));
byId("accept").addEventListener("click", accept);
byId("send").addEventListener("click", send);
byId("tools").addEventListener("submit", (event) => {
  event.preventDefault();
  addClass();
});
byId("complete").addEventListener("change", () => {
  if (byId("complete").checked) correction.complete.add(value);
  else correction.complete.delete(value);
  unsent = true;
});
addEventListener("beforeunload", (event) => {
  if (unsent) event.preventDefault();
});
