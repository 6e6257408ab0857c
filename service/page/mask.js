// Draws a mask on a canvas, in its own colours with a transparent background.

const MAX_SIDE = 4096; // pixels; phones refuse much larger canvases

// Draws the palette PNG in `base64`, with the colour `background`, [red, green, blue], transparent.
export async function drawMask(canvas, base64, background) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const mask = await createImageBitmap(new Blob([bytes], { type: "image/png" }), options);
  const scale = Math.min(1, MAX_SIDE / Math.max(mask.width, mask.height));
  canvas.width = Math.max(1, Math.round(mask.width * scale));
  canvas.height = Math.max(1, Math.round(mask.height * scale));
  const drawing = canvas.getContext("2d", { willReadFrequently: true });
  drawing.imageSmoothingEnabled = false;
  drawing.drawImage(mask, 0, 0, canvas.width, canvas.height);
  mask.close();
  const pixels = drawing.getImageData(0, 0, canvas.width, canvas.height);
  const values = pixels.data;
  const [red, green, blue] = background;
  for (let i = 0; i < values.length; i += 4) {
    if (values[i] === red && values[i + 1] === green && values[i + 2] === blue) values[i + 3] = 0;
  }
  drawing.putImageData(pixels, 0, 0);
}
