
// The page of a running store: asks its server for newer content, and keeps what the reader has opened, sorted and typed.

let tag = document.documentElement.dataset.tag;

function sorted() {
  return [...document.querySelectorAll("table.sortable")].map((table) =>
    [...table.tHead.rows[0].cells].map((cell) => cell.getAttribute("aria-sort")));
}

function replace(title, inner, sources) {
  const open = [...document.querySelectorAll("main details[open]")].map((part) => part.id);
  const [orders, search] = [sorted(), document.getElementById("filter")];
  const [words, typing] = [search?.value, search && document.activeElement === search && search.selectionStart];
  const logs = [...document.querySelectorAll("pre.log")].map((log) => log.scrollTop + log.clientHeight + 8 < log.scrollHeight && log.scrollTop);
  document.title = document.querySelector("h1").textContent = title;
  document.querySelector("main").innerHTML = inner; // as the server's page has it: every text in it is escaped
  data = JSON.parse(sources);
  ready();
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  for (const [place, table] of document.querySelectorAll("table.sortable").entries()) {
    for (const [column, order] of (orders[place] || []).entries()) {
      const button = table.tHead.rows[0].cells[column]?.querySelector("button");
      for (let turn = 0; button && order && turn < (order === "descending" ? 2 : 1); turn++) button.click();
    }
  }
  for (const [place, log] of document.querySelectorAll("pre.log").entries()) {
    log.scrollTop = typeof logs[place] === "number" ? logs[place] : log.scrollHeight; // who reads above, stays there
  }
  const now = document.getElementById("filter");
  if (now && words) {
    now.value = words;
    filter(now, document.getElementById("shown"));
  }
  if (now && typing !== false && typing !== null && typing !== undefined) {
    now.focus();
    now.setSelectionRange(typing, typing);
  }
}

async function look() {
  let said = "live";
  try {
    const headers = { Accept: "application/json", "If-None-Match": tag };
    const answer = await fetch(location.pathname, { headers, cache: "no-store" });
    if (answer.ok) {
      replace(...(await answer.json()));
      tag = answer.headers.get("ETag");
    } else if (answer.status !== 304) said = `the server answers ${answer.status}`;
  } catch {
    said = "the server does not answer; what you see is from before";
  }
  document.getElementById("live").textContent = said;
  setTimeout(look, document.hidden ? 10000 : 1000);
}
look();
