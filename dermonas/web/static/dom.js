// Elements from plain values. Text is always text: nothing here, nor anywhere in the page, makes markup of a string.

/**
 * Return an element.
 * @param {string} name Of the tag.
 * @param {Object<string, string|number|boolean>} attributes By name; false and undefined leave one out.
 * @param {...(Node|string|number)} children Strings become text.
 */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== false && value !== undefined) element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

/** Return the page's element of an id. */
export const by = (id) => document.getElementById(id);

/** Return a share in 0..1 as per cent: whole ones, and a decimal near both ends, where it tells something. */
export function percent(share) {
  const value = 100 * share;
  const near = value !== 0 && value !== 100 && (value < 9.95 || value > 99);
  return `${value.toFixed(near ? 1 : 0)} %`;
}

/** Return a count of bytes in words. */
export function bytes(count) {
  if (count < 1000) return `${count} bytes`;
  const [size, unit] = count < 1e6 ? [count / 1e3, "kB"] : [count / 1e6, "MB"];
  return `${size < 10 ? size.toFixed(1) : Math.round(size)} ${unit}`;
}
