// Sorts, searches and chooses columns, and draws the rows that the page does not begin with. Without it, everything but these
// rows can still be read.
"use strict";
const STEP = 100;  // rows that are drawn at once
const make = (tag, text = "", set = {}) => Object.assign(document.createElement(tag), { textContent: text, ...set });
for (const table of document.querySelectorAll("table.board")) {
  table.classList.add("sorts");
  const heads = [...table.tHead.rows[0].cells];
  const bodies = [...table.tBodies];
  const number = (cell) => cell.dataset.value === undefined ? cell.tagName === "TH" ? cell.textContent.trim() : "" : Number(cell.dataset.value);
  // A row is its place, its words, its values by column, and `draw`, which makes its element when it is first shown.
  let rows = bodies.flatMap((body, group) => [...body.rows].filter((row) => row.dataset.row !== undefined).map((row) => ({
    group, place: Number(row.dataset.place), words: row.dataset.row, values: [...row.cells].map(number), draw: () => row,
  })));
  const titles = bodies.map((body) => [...body.rows].filter((row) => row.dataset.row === undefined));
  const total = Number(table.dataset.count || rows.length);
  const search = document.getElementById("filter"), count = document.getElementById("count");
  const list = document.getElementById("columns"), next = document.getElementById("next");
  const off = new Map();  // by the place of a column, whether the reader hides it
  let limit = Math.max(STEP, rows.length), sorted = null, waiting = [];

  const compare = (a, b) => {
    if (sorted === null) return a.place - b.place;
    const [x, y] = [a.values[sorted.place], b.values[sorted.place]];
    const gaps = (x === "") - (y === "");  // a row without a value stays last in both orders
    if (gaps) return gaps;
    return sorted.sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
  };
  const hide = (row) => off.forEach((hidden, place) => {
    row.cells[place].hidden = hidden;
    row.cells[place].classList.remove("more");
  });
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = rows.filter((row) => words.every((word) => row.words.includes(word)));
    const groups = bodies.map((_, place) => found.filter((row) => row.group === place).sort(compare));
    const each = Math.ceil(limit / Math.max(1, groups.filter((group) => group.length).length));
    let drawn = 0;
    bodies.forEach((body, place) => {
      const first = found.length <= limit ? groups[place] : groups[place].slice(0, each);
      const elements = first.map((row) => (row.element ??= row.draw()));
      elements.forEach(hide);
      body.replaceChildren(...titles[place], ...elements);
      body.hidden = !first.length;
      drawn += first.length;
    });
    const matched = rows.length < total && words.length ? "…" : found.length < total ? `${found.length} of ${total} rows` : `${total} rows`;
    count.textContent = drawn < found.length || rows.length < total ? `${drawn} shown, ${matched}` : `${found.length} of ${total} rows`;
    if (next) next.hidden = drawn >= found.length && rows.length === total;
  };
  const whole = (then) => {
    if (rows.length === total) return then();
    waiting.push(then);
    if (waiting.length === 1) document.head.append(make("script", "", { src: table.dataset.more }));
  };
  globalThis.showRows = (texts, range, more) => {
    const read = (text) => typeof text === "number" ? texts[text] : text;
    rows = rows.concat(more.map((row) => ({
      group: row.group, place: row.place, words: row.search,
      values: [...row.ranks.map((rank) => rank[1] ?? ""), row.label, ...row.cells.map((cell) => cell[1] ?? "")],
      draw: () => drawRow(row, read, range, heads),
      name: row.name,
    })));
    waiting.splice(0).forEach((then) => then());
  };

  heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => whole(() => {
    const first = head.dataset.better === "lower" || head.dataset.better === undefined ? "ascending" : "descending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    heads.forEach((each) => each.setAttribute("aria-sort", each === head ? order : "none"));
    sorted = { place, sign: order === "ascending" ? 1 : -1 };
    show();
  })));
  search.addEventListener("input", () => whole(show));
  next?.addEventListener("click", () => whole(() => { limit += STEP; show(); }));
  if (next) next.hidden = false;
  heads.forEach((head, place) => {
    if (head.scope !== "col" || head.dataset.fixed !== undefined) return;
    const label = make("label"), box = make("input", "", { type: "checkbox", checked: !head.classList.contains("more") });
    box.addEventListener("change", () => { off.set(place, !box.checked); hide(table.tHead.rows[0]); show(); });
    label.append(box, " " + head.dataset.name);
    list.append(label);
  });
  document.getElementById("choices").hidden = false;
  const open = () => {
    const name = location.hash.startsWith("#row-") && location.hash.slice(5);
    if (!name) return;
    const details = document.getElementById(`row-${name}`);
    if (details) details.open = true;
    else if (rows.length < total) whole(open);
    else {
      const row = rows.find((each) => each.name === name);
      if (!row) return;
      row.element ??= row.draw();
      document.getElementById(`row-${name}`)?.scrollIntoView();
      open();
    }
  };
  addEventListener("hashchange", open);
  open();
}

// A row that is not in the page, and its details below the table: as the page writes the first ones.
function drawRow(row, read, range, heads) {
  const element = make("tr");
  const note = (cell, text, reason) => {
    const badge = make("span", text, { className: "badge", tabIndex: 0, title: reason });
    cell.append(badge);
  };
  const value = (cell, number) => { if (number !== null) cell.dataset.value = number; };
  element.className = row.control ? "control" : "";
  element.dataset.row = row.search;
  for (const [text, number, reason] of row.ranks) {
    const cell = make("td", "", { className: "number" });
    value(cell, number);
    if (reason || (row.control && text)) note(cell, text, reason);
    else cell.textContent = text;
    element.append(cell);
  }
  const name = make("th", "", { scope: "row", className: "name" });
  name.append(make("a", row.label, { href: `#row-${row.name}` }));
  if (row.badge.length) { name.append(" "); note(name, ...row.badge); }
  for (const [title, about, url] of row.papers.map((paper) => paper.map(read))) {
    const small = make("small");
    small.append(url ? make("a", about || title, { href: url, rel: "noopener noreferrer", title }) : about, " ", make("span", title, { className: "title" }));
    name.append(small);
  }
  element.append(name);
  row.cells.forEach(([text, number, small, apart, sign, flags], place) => {
    const head = heads[row.ranks.length + 1 + place];
    const cell = make("td", text, { className: `number ${head.classList.contains("more") ? "more" : ""}` });
    value(cell, number);
    if (flags) cell.append(" ", make("a", "*", { className: "flag", href: `#row-${row.name}`, title: flags }));
    if (small) cell.append(make("small", small));
    if (apart) cell.append(make("small", apart + { "1": " ▲", "-1": " ▼", "0": "" }[sign], { className: { "1": "better", "-1": "worse", "0": "" }[sign] }));
    element.append(cell);
  });
  const details = make("details", "", { id: `row-${row.name}` });
  details.append(make("summary", row.label));
  if (row.bins.length) details.append(drawBins(row.bins, range));
  const list = make("dl");
  for (const [term, tag, texts] of row.details) {
    list.append(make("dt", term));
    for (const text of texts.map(read)) {
      const item = make("dd");
      item.append(tag ? make(tag, text) : text);
      list.append(item);
    }
  }
  details.append(list);
  document.getElementById("details").append(details);
  return element;
}

function drawBins(bins, [low, high]) {
  const draw = (tag, set) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, text] of Object.entries(set)) element.setAttribute(name, text);
    return element;
  };
  const most = Math.max(...bins), width = 292 / bins.length;
  const path = bins.map((count, place) => count ? `M${54.5 + place * width} 110v${-98 * count / most}h${width - 1}V110` : "").join("");
  const svg = draw("svg", { viewBox: "0 0 360 150", role: "img", "aria-label": `histogram over images, at most ${most} in a bin` });
  svg.append(draw("path", { class: "bar", d: path }), draw("path", { class: "axis", d: "M54 12V110H346" }));
  [[54, low], [346, high]].forEach(([x, at]) => {
    const text = draw("text", { x, y: 127, "text-anchor": "middle" });
    text.textContent = at;
    svg.append(text);
  });
  const figure = make("figure");
  figure.append(svg);
  return figure;
}

// The overview: which boards have a method.
const methods = document.getElementById("methods");
if (methods) {
  document.getElementById("methods-search").hidden = false;
  const boards = [...document.querySelectorAll("[data-methods]")];
  methods.addEventListener("input", () => {
    const word = methods.value.trim().toLowerCase();
    const found = document.getElementById("found");
    found.replaceChildren();
    for (const board of boards) {
      const names = board.dataset.methods.split("\n").filter((name) => word && name.toLowerCase().includes(word));
      board.hidden = Boolean(word) && !names.length;
      if (!names.length) continue;
      const item = make("li");
      item.append(make("a", board.dataset.board, { href: board.querySelector("a").getAttribute("href") }), ": " + names.join(", "));
      found.append(item);
    }
  });
}
