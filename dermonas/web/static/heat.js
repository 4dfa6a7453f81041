// Class activation maps in colours. The server sends grey for 0 to 1, transparent where the network does not look.

// Plasma in 17 steps, as the figures of `explain`: told apart with any colour vision, and its lightness rises evenly.
const PLASMA = [
  "0d0887", "310597", "4c02a1", "6600a7", "7e03a8", "9511a1", "aa2395", "bc3587", "cc4778", "da5a6a", "e66c5c", "f0804e",
  "f89540", "fdac33", "fdc527", "f8df25", "f0f921",
];
const STOPS = PLASMA.map((hex) => [0, 2, 4].map((start) => parseInt(hex.slice(start, start + 2), 16)));
const TABLE = Array.from({ length: 256 }, (_, level) => {
  const place = (level / 255) * (STOPS.length - 1);
  const left = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[left].map((value, band) => Math.round(value + (place - left) * (STOPS[left + 1][band] - value)));
});

/** The scale from low to high, for CSS. */
export const SCALE = `linear-gradient(to right, ${PLASMA.map((hex) => `#${hex}`).join(", ")})`;

/**
 * Draw a map on a canvas.
 * @param {HTMLCanvasElement} canvas Takes the map's size.
 * @param {string} png Base64 of a PNG file.
 * @returns {Promise<boolean>} Whether a part of the image is not seen by the network.
 */
export async function paint(canvas, png) {
  const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
  const map = await createImageBitmap(new Blob([bytes], { type: "image/png" }), { colorSpaceConversion: "none" });
  canvas.width = map.width;
  canvas.height = map.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(map, 0, 0);
  const pixels = context.getImageData(0, 0, map.width, map.height);
  let hidden = false;
  for (let at = 0; at < pixels.data.length; at += 4) {
    if (pixels.data[at + 3]) pixels.data.set(TABLE[pixels.data[at]], at);
    else hidden = true;
  }
  context.putImageData(pixels, 0, 0);
  return hidden;
}
