// Masks as PNG: those of the service are read exactly, whatever the size and the colours that a canvas would give, and
// corrections are written with a value per pixel, which a canvas cannot.

const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
const CRC = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

// The format `png` of the service in base64, as { width, height, values, names, colours }: the label of each pixel, and
// the names and the [red, green, blue] of labels. Throws an Error for other PNGs.
export async function readMask(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const chunks = [...chunksOf(bytes)];
  const named = (name) => chunks.filter(([type]) => type === name).map(([, data]) => data);
  const header = named("IHDR")[0];
  const width = header.getUint32(0);
  const height = header.getUint32(4);
  const rows = await through(new Blob(named("IDAT")), new DecompressionStream("deflate"));
  const values = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const start = y * (width + 1);
    if (rows[start] !== 0) throw new Error("The mask is a PNG that this page cannot read.");
    values.set(rows.subarray(start + 1, start + 1 + width), y * width);
  }
  const texts = named("tEXt").map((data) => new TextDecoder("latin1").decode(data).split("\0"));
  const classes = JSON.parse(Object.fromEntries(texts).classes);
  const palette = named("PLTE")[0];
  const colours = Array.from({ length: palette.byteLength / 3 }, (_, label) =>
    [0, 1, 2].map((channel) => palette.getUint8(3 * label + channel)),
  );
  return { width, height, values, names: Object.keys(classes).map((label) => classes[label]), colours };
}

// A greyscale PNG of `values`, one per pixel.
export async function encode({ width, height, values }) {
  const rows = new Uint8Array((width + 1) * height); // each after the number of its filter, 0 = none
  for (let y = 0; y < height; y++) rows.set(values.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 8); // bits per pixel; the other fields are 0: greyscale, without interlacing
  const data = await through(new Blob([rows]), new CompressionStream("deflate"));
  const chunks = [chunk("IHDR", new Uint8Array(header.buffer)), chunk("IDAT", data), chunk("IEND", new Uint8Array())];
  return new Blob([SIGNATURE, ...chunks], { type: "image/png" });
}

function* chunksOf(bytes) {
  const view = new DataView(bytes.buffer);
  for (let start = SIGNATURE.length; start < bytes.length; ) {
    const length = view.getUint32(start);
    const type = String.fromCharCode(...bytes.subarray(start + 4, start + 8));
    yield [type, new DataView(bytes.buffer, start + 8, length)];
    start += length + 12;
  }
}

function chunk(type, data) {
  const bytes = new Uint8Array(data.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set([...type].map((letter) => letter.charCodeAt(0)), 4);
  bytes.set(data, 8);
  let crc = -1;
  for (const byte of bytes.subarray(4, -4)) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  view.setInt32(data.length + 8, ~crc);
  return bytes;
}

async function through(blob, stream) {
  return new Uint8Array(await new Response(blob.stream().pipeThrough(stream)).arrayBuffer());
}
