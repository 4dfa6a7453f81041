// The server's routes. A refusal is an error with the server's own line.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let token = "";

/** Send a token from now on. It is kept in this page's memory and nowhere else. */
export function enter(text) {
  token = text;
}

async function call(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Refused(0, "the server cannot be reached");
  }
  let content;
  try {
    content = await response.json();
  } catch {
    throw new Refused(response.status, `the server's answer (${response.status}) cannot be read`);
  }
  if (!response.ok) {
    const refused = new Refused(response.status, content.message ?? `the server refused (${response.status})`);
    refused.after = Number(response.headers.get("Retry-After")) || 1;
    throw refused;
  }
  return content;
}

/** GET a route's JSON. */
export const get = (path) => call(path);

const TRIES = 6; // of a server that has no place for the moment

/**
 * Ask about one image.
 * @param {Blob} file Encoded.
 * @param {number} labels How many to list.
 */
export async function ask(file, labels) {
  const image = await base64(file);
  const body = JSON.stringify({ inputs: { image: [image] }, params: { top_k: labels, cam: true } });
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body };
  for (let number = 1; ; number += 1) {
    try {
      return (await call("/invocations", options)).predictions[0];
    } catch (error) {
      if (error.status !== 429 || number === TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * error.after));
    }
  }
}

/** Return the bytes that a request about a file of this size has, at most. */
export const sizeOf = (file) => 4 * Math.ceil(file.size / 3) + 100;

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Refused(0, "this browser cannot read the file"));
    reader.readAsDataURL(file);
  });
}
