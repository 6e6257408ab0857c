// A brush that pointers and keys move over a photo.

const ERASER = 5; // the button of a pen's other end
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Brush {
  #canvas;
  #ring;
  #strokes;
  #at = [0, 0]; // the pixel under the brush
  #last = null; // where the last stroke ended
  #drawing = false;
  #photo = { width: 1, height: 1 };
  #size = 1;

  // Listens to `canvas`, and shows the brush as `ring`, an element in the same box. `strokes` are told what is drawn:
  // begin(erases), line(from, to) between pixels of the photo, each [x, y], end(), and cancel().
  constructor(canvas, ring, strokes) {
    [this.#canvas, this.#ring, this.#strokes] = [canvas, ring, strokes];
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#drag(event));
    canvas.addEventListener("pointerup", () => this.#end());
    canvas.addEventListener("pointercancel", () => this.#cancel());
    canvas.addEventListener("keydown", (event) => this.#pressKey(event));
    canvas.addEventListener("keyup", (event) => event.key === " " && this.#end());
    canvas.addEventListener("blur", () => this.#end());
  }

  // Starts in the middle of another photo of this size.
  reset({ width, height }) {
    this.#photo = { width, height };
    this.#last = null;
    this.#move([Math.floor(width / 2), Math.floor(height / 2)]);
  }

  // Changes the diameter, in pixels of the photo.
  resize(size) {
    this.#size = size;
    this.#move(this.#at);
  }

  #press(event) {
    if (this.#drawing || (event.button !== 0 && event.button !== ERASER)) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#move(this.#pixel(event));
    this.#begin(event.button === ERASER, event.shiftKey);
  }

  #drag(event) {
    if (!event.isPrimary) return;
    const passed = event.getCoalescedEvents?.() ?? []; // not told to pages without TLS
    for (const each of passed.length ? passed : [event]) {
      this.#move(this.#pixel(each));
      this.#extend();
    }
  }

  #pressKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const direction = ARROWS[event.key];
    if (direction) {
      const step = event.shiftKey ? 1 : Math.max(1, Math.round(this.#size / 2));
      const limits = [this.#photo.width - 1, this.#photo.height - 1];
      this.#move(this.#at.map((value, axis) => Math.min(limits[axis], Math.max(0, value + direction[axis] * step))));
      this.#ring.scrollIntoView({ block: "nearest", inline: "nearest" });
      this.#extend();
    } else if (event.key === " ") {
      if (!this.#drawing) this.#begin(false, false);
    } else if (event.key === "Enter") {
      if (!this.#drawing && !event.repeat) {
        this.#begin(false, true);
        this.#end();
      }
    } else {
      return;
    }
    event.preventDefault();
  }

  // Begins a stroke, with a line from the end of the last one if it is `joined` to that.
  #begin(erases, joined) {
    this.#drawing = true;
    this.#strokes.begin(erases);
    this.#strokes.line((joined && this.#last) || this.#at, this.#at);
    this.#last = this.#at;
  }

  #extend() {
    if (!this.#drawing) return;
    this.#strokes.line(this.#last, this.#at);
    this.#last = this.#at;
  }

  #end() {
    if (this.#drawing) this.#strokes.end();
    this.#drawing = false;
  }

  #cancel() {
    if (this.#drawing) this.#strokes.cancel();
    this.#drawing = false;
  }

  #move([x, y]) {
    this.#at = [x, y];
    const { width, height } = this.#photo;
    const percent = (pixels, side) => `${(100 * pixels) / side}%`;
    Object.assign(this.#ring.style, { left: percent(x + 0.5, width), top: percent(y + 0.5, height) });
    this.#ring.style.width = percent(this.#size, width);
  }

  #pixel(event) {
    const box = this.#canvas.getBoundingClientRect();
    return [
      Math.floor(((event.clientX - box.left) / box.width) * this.#photo.width),
      Math.floor(((event.clientY - box.top) / box.height) * this.#photo.height),
    ];
  }
}
