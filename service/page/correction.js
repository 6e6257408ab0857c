// What a person says about the pixels of a photo.

export const UNSAID = 255;

const BAND = 64; // rows, of which a step keeps what was there before
const MAX_KEPT = 200_000_000; // bytes of all steps together

export class Correction {
  #step = null; // the rows before the step in progress, by band
  #done = [];
  #undone = [];

  // Of a photo of this size in pixels; `names` are those of values from 0, background, on.
  constructor({ width, height, names }) {
    Object.assign(this, { width, height, names: [...names] });
    this.values = new Uint8Array(width * height).fill(UNSAID);
    this.counts = new Int32Array(256); // the number of pixels of each value
    this.counts[UNSAID] = this.values.length;
    this.complete = new Set(); // the values of classes of which all pixels are painted
  }

  // Begins a step, which is undone as a whole.
  begin() {
    this.#step = new Map();
  }

  // Gives `value` to the pixels within half of `size` of the line between two pixels, each [x, y], which may be outside
  // the photo. Returns their area, { left, top, right, bottom }.
  paint(value, [x0, y0], [x1, y1], size) {
    const reach = size / 2;
    const left = Math.max(0, Math.ceil(Math.min(x0, x1) - reach));
    const top = Math.max(0, Math.ceil(Math.min(y0, y1) - reach));
    const right = Math.min(this.width, Math.floor(Math.max(x0, x1) + reach) + 1);
    const bottom = Math.min(this.height, Math.floor(Math.max(y0, y1) + reach) + 1);
    this.#keep(top, bottom);
    const [across, down] = [x1 - x0, y1 - y0];
    const length = across ** 2 + down ** 2 || 1;
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        const along = Math.min(1, Math.max(0, ((x - x0) * across + (y - y0) * down) / length));
        const distance = (x - x0 - along * across) ** 2 + (y - y0 - along * down) ** 2;
        if (distance <= reach ** 2) this.#set(y * this.width + x, value);
      }
    }
    return { left, top, right, bottom };
  }

  // Gives the unlabelled pixels the values of `labels`.
  fill(labels) {
    this.#keep(0, this.height);
    for (let at = 0; at < labels.length; at++) if (this.values[at] === UNSAID) this.#set(at, labels[at]);
  }

  // Ends the step.
  end() {
    this.#done.push(this.#step);
    this.#step = null;
    this.#undone = [];
    const size = (step) => [...step.values()].reduce((bytes, rows) => bytes + rows.length, 0);
    let kept = this.#done.reduce((bytes, step) => bytes + size(step), 0);
    while (kept > MAX_KEPT && this.#done.length > 1) kept -= size(this.#done.shift());
  }

  // Takes the step in progress back, as if it had not begun.
  cancel() {
    this.#exchange(this.#step);
    this.#step = null;
  }

  // Whether there was a step to take back.
  undo() {
    return this.#move(this.#done, this.#undone);
  }

  // Whether there was a step to do again.
  redo() {
    return this.#move(this.#undone, this.#done);
  }

  #move(from, to) {
    const step = this.#step ? null : from.pop();
    if (!step) return false;
    this.#exchange(step);
    to.push(step);
    return true;
  }

  #keep(top, bottom) {
    for (let band = Math.floor(top / BAND); band * BAND < bottom; band++) {
      if (!this.#step.has(band)) this.#step.set(band, this.#rows(band).slice());
    }
  }

  #exchange(step) {
    for (const [band, before] of step) {
      const rows = this.#rows(band);
      step.set(band, rows.slice());
      for (const value of rows) this.counts[value]--;
      for (const value of before) this.counts[value]++;
      rows.set(before);
    }
  }

  #set(at, value) {
    this.counts[this.values[at]]--;
    this.counts[value]++;
    this.values[at] = value;
  }

  #rows(band) {
    return this.values.subarray(band * BAND * this.width, (band + 1) * BAND * this.width);
  }
}
