// A model card's Markdown as elements: headings, lists, quotes, tables, bold and code, which is what cards are made of.
// Anything else stays the text that it is; links and pictures too, so that a card leads nowhere and loads nothing.

import { make } from "./dom.js";

const LEVEL = 2; // a card's first heading stands below the page's section and its cells

/** Return the elements of a card. */
export function rendered(text) {
  const found = [];
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  for (let at = 0; at < lines.length; ) {
    const take = (pattern) => {
      const taken = [];
      while (at < lines.length && pattern.test(lines[at])) taken.push(lines[at++]);
      return taken;
    };
    const heading = /^(#{1,4}) (.*)$/.exec(lines[at]);
    if (!lines[at].trim()) {
      at += 1;
    } else if (heading) {
      found.push(make(`h${Math.min(heading[1].length + LEVEL, 6)}`, {}, ...inline(heading[2])));
      at += 1;
    } else if (/^> ?/.test(lines[at])) {
      const quoted = take(/^> ?/).map((line) => line.replace(/^> ?/, ""));
      found.push(make("blockquote", {}, ...inline(quoted.join(" "))));
    } else if (/^- /.test(lines[at])) {
      const items = [];
      for (const line of take(/^(- |  +\S)/)) {
        if (line.startsWith("- ")) items.push(line.slice(2));
        else items[items.length - 1] += ` ${line.trim()}`;
      }
      found.push(make("ul", {}, ...items.map((item) => make("li", {}, ...inline(item)))));
    } else if (/^\|/.test(lines[at])) {
      found.push(table(take(/^\|/)));
    } else {
      const words = [lines[at++], ...take(/^(?!#{1,4} |>|- |\|)\s*\S/)];
      found.push(make("p", {}, ...inline(words.join(" "))));
    }
  }
  return found;
}

/** Return a line's parts, of which `code` and **bold** are elements. */
function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).filter(Boolean).map((part) => {
    if (/^`[^`]+`$/.test(part)) return make("code", {}, part.slice(1, -1));
    return /^\*\*[^*]+\*\*$/.test(part) ? make("strong", {}, part.slice(2, -2)) : part;
  });
}

function table(lines) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/)
    .map((cell) => cell.trim().replaceAll("\\|", "|"));
  const rows = lines.filter((line) => !/^\|[\s|:-]+$/.test(line)).map(cells);
  const line = (row, name) => make("tr", {}, ...row.map((cell, column) =>
    column ? make(name, name === "th" ? { scope: "col" } : {}, ...inline(cell))
      : make("th", { scope: name === "th" ? "col" : "row", class: "text" }, ...inline(cell))));
  return make("div", { class: "wide", tabindex: 0, role: "region", "aria-label": `Table: ${rows[0]?.[0] ?? ""}` },
    make("table", {}, make("thead", {}, ...rows.slice(0, 1).map((row) => line(row, "th"))),
      make("tbody", {}, ...rows.slice(1).map((row) => line(row, "td")))));
}
