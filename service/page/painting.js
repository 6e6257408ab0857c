// A mask on a canvas: its own colours, nothing where it is background.

const LONGEST = 4096; // of a canvas; phones refuse much larger ones

// Paints the palette PNG in `base64` and lets `background`, [red, green, blue], be seen through.
export async function paint(canvas, base64, background) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const mask = await createImageBitmap(new Blob([bytes], { type: "image/png" }), options);
  const scale = Math.min(1, LONGEST / Math.max(mask.width, mask.height));
  canvas.width = Math.max(1, Math.round(mask.width * scale));
  canvas.height = Math.max(1, Math.round(mask.height * scale));
  const drawing = canvas.getContext("2d", { willReadFrequently: true });
  drawing.imageSmoothingEnabled = false;
  drawing.drawImage(mask, 0, 0, canvas.width, canvas.height);
  mask.close();
  const pixels = drawing.getImageData(0, 0, canvas.width, canvas.height);
  const values = pixels.data;
  const [red, green, blue] = background;
  for (let at = 0; at < values.length; at += 4) {
    if (values[at] === red && values[at + 1] === green && values[at + 2] === blue) values[at + 3] = 0;
  }
  drawing.putImageData(pixels, 0, 0);
}
