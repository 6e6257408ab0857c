// Draws masks, { width, height, values } with a label per pixel, on canvases.

const MAX_SIDE = 4096; // pixels; phones refuse much larger canvases
const OUTLINES_SIDE = 1024; // pixels
const OUTLINE = 2; // pixels
const INSIDE = 255; // of outlines

// Makes the canvas as large as `mask`, but at most `side` pixels.
export function fit(canvas, mask, side = MAX_SIDE) {
  const scale = Math.min(1, side / Math.max(mask.width, mask.height));
  canvas.width = Math.max(1, Math.round(mask.width * scale));
  canvas.height = Math.max(1, Math.round(mask.height * scale));
}

// Draws `mask` on a canvas that fits it, within `area`, { left, top, right, bottom } in pixels of the mask. `colours`
// has the [red, green, blue] of values; those without one are transparent.
export function draw(canvas, mask, colours, area = { left: 0, top: 0, right: mask.width, bottom: mask.height }) {
  const [across, down] = [canvas.width / mask.width, canvas.height / mask.height];
  const left = Math.max(0, Math.floor(area.left * across));
  const top = Math.max(0, Math.floor(area.top * down));
  const right = Math.min(canvas.width, Math.ceil(area.right * across));
  const bottom = Math.min(canvas.height, Math.ceil(area.bottom * down));
  if (right <= left || bottom <= top) return;
  const image = new ImageData(right - left, bottom - top);
  const pixels = new Uint32Array(image.data.buffer);
  const bytes = Uint8Array.from({ length: 4 * 256 }, (_, at) => {
    const colour = colours[at >> 2];
    return colour ? (at % 4 === 3 ? 255 : colour[at % 4]) : 0;
  });
  const packed = new Uint32Array(bytes.buffer); // the pixel of each value
  const columns = Int32Array.from({ length: right - left }, (_, x) => Math.floor((left + x + 0.5) / across));
  for (let y = top, at = 0; y < bottom; y++) {
    const row = Math.floor((y + 0.5) / down) * mask.width;
    for (let x = 0; x < columns.length; x++) pixels[at++] = packed[mask.values[row + columns[x]]];
  }
  canvas.getContext("2d", { willReadFrequently: true }).putImageData(image, left, top);
}

// Draws the outlines of the objects of `mask`.
export function drawOutlines(canvas, mask, colours) {
  fit(canvas, mask, OUTLINES_SIDE);
  const { width, height } = canvas;
  const [across, down] = [mask.width / width, mask.height / height];
  const label = (x, y) => mask.values[Math.floor((y + 0.5) * down) * mask.width + Math.floor((x + 0.5) * across)];
  const values = new Uint8Array(width * height);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const own = (values[at] = label(x, y));
      const inside =
        label(Math.max(0, x - OUTLINE), y) === own &&
        label(Math.min(width - 1, x + OUTLINE), y) === own &&
        label(x, Math.max(0, y - OUTLINE)) === own &&
        label(x, Math.min(height - 1, y + OUTLINE)) === own;
      if (inside) values[at] = INSIDE;
    }
  }
  draw(canvas, { width, height, values }, colours.with(0, undefined).with(INSIDE, undefined));
}
