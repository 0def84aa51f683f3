"use strict";
// Sorting, filtering, and where a line's numbers come from. Texts go in as text, never as HTML.

let data;

async function unpack() {
  const packed = document.getElementById("packed");
  if (!packed) return JSON.parse(document.getElementById("sources").textContent);
  const bytes = Uint8Array.from(atob(packed.textContent), (sign) => sign.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const [inner, sources] = JSON.parse(await new Response(stream).text());
  document.querySelector("main").innerHTML = inner; // as the page would have it: every text in it is escaped
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  return JSON.parse(sources);
}

function sortBy(table, column, button) {
  const heading = button.closest("th");
  const descending = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const key = (row) => {
    const cell = row.cells[column];
    return cell.dataset.number === undefined ? null : Number(cell.dataset.number);
  };
  const rows = [...table.tBodies[0].rows];
  rows.sort((one, two) => {
    const [a, b] = [key(one), key(two)];
    if (a === null || b === null) {
      if (a !== b) return a === null ? 1 : -1; // what has no number stays at the end, whichever way
      const order = one.cells[column].textContent.localeCompare(two.cells[column].textContent);
      return descending ? -order : order;
    }
    return descending ? b - a : a - b;
  });
  table.tBodies[0].append(...rows);
}

function filter(search, count) {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of document.querySelectorAll("tr[data-text]")) {
    const fits = words.every((word) => row.dataset.text.includes(word));
    row.hidden = !fits;
    shown += fits;
  }
  for (const section of document.querySelectorAll("section.table")) {
    section.hidden = words.length > 0 && !section.querySelector("tr[data-text]:not([hidden])");
  }
  count.textContent = words.length ? `${shown} lines` : "";
}
const dialog = document.getElementById("provenance");

function put(parent, tag, text) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function list(parent, entries) {
  const fields = put(parent, "dl");
  for (const [name, value] of entries) {
    if (value === null || value === undefined || value === "") continue;
    put(fields, "dt", name.replaceAll("_", " "));
    put(fields, "dd", typeof value === "object" ? JSON.stringify(value) : String(value));
  }
}

function trial(parent, role, id) {
  const known = data.trials[id] || {};
  const part = put(parent, "details");
  put(part, "summary", `${role}: ${known.model || ""} ${id.slice(0, 12)} ${known.status === "done" ? "" : known.status || ""}`);
  const { measurements, ...rest } = known;
  list(part, [["trial", id], ...Object.entries(rest).filter(([name]) => name !== "trial_id"), ...Object.entries(measurements || {})]);
  if (data.logs[id]) put(part, "pre", data.logs[id]);
  if (document.documentElement.dataset.tag) put(part, "a", "its page").href = `/trial/${id}`;
  put(part, "p", "Its log and record, and the trial once more:");
  put(part, "pre", `wtsbench logs ${id}\nwtsbench reproduce ${id.slice(0, 12)}`);
}

function show(key) {
  const source = data.sources[key];
  const body = dialog.querySelector(".body");
  body.replaceChildren();
  dialog.querySelector("h2").textContent = source.title;
  list(body, [
    ["data digest", source.data_digest], ["test set", source.split], ["test items", source.test_items],
    ["metric", source.metric], ["sandbox", source.sandboxes.join(", ")],
  ]);
  put(body, "p", "To run it again and compare:");
  put(body, "pre", source.command);
  for (const seed of source.trials) {
    put(body, "h3", `seed ${seed.seed}`);
    for (const role of ["weak", "ceiling", "student"]) trial(body, role, seed[role]);
  }
  if (source.failures.length) put(body, "h3", "failed");
  for (const id of source.failures) trial(body, "failed", id);
  dialog.showModal();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button.source");
  if (button) show(button.dataset.source);
  if (event.target.closest("dialog button")) dialog.close();
});

function ready() {
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const [column, heading] of [...table.tHead.rows[0].cells].entries()) {
      const button = heading.querySelector("button");
      if (button) button.addEventListener("click", () => sortBy(table, column, button));
    }
  }
  const search = document.getElementById("filter");
  if (search) search.addEventListener("input", () => filter(search, document.getElementById("shown")));
}

unpack().then((found) => {
  data = found;
  ready();
});
