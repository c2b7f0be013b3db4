// Sorts, filters and chooses columns. Without it, everything can still be read.
"use strict";
for (const table of document.querySelectorAll("table.board")) {
  table.classList.add("sorts");
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, place) => {
    const cell = row.cells[place];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    return cell.tagName === "TH" ? cell.textContent.trim() : "";
  };
  heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => {
    const first = head.dataset.better === "lower" || head.dataset.better === undefined ? "ascending" : "descending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    heads.forEach((each) => each.setAttribute("aria-sort", each === head ? order : "none"));
    const sign = order === "ascending" ? 1 : -1;
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => row.dataset.row !== undefined);
      rows.sort((a, b) => {
        const [x, y] = [value(a, place), value(b, place)];
        const gaps = (x === "") - (y === "");  // a row without a value stays last in both orders
        if (gaps) return gaps;
        return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
      });
      body.append(...rows);
    }
  }));
  const choices = document.getElementById("choices");
  const count = document.getElementById("count");
  const search = document.getElementById("filter");
  const rows = [...table.querySelectorAll("tr[data-row]")];
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => row.dataset.row.toLowerCase().includes(word));
    for (const body of table.tBodies) body.hidden = ![...body.rows].some((r) => r.dataset.row !== undefined && !r.hidden);
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  });
  const list = document.getElementById("columns");
  heads.forEach((head, place) => {
    if (head.scope !== "col" || head.dataset.fixed !== undefined) return;
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = !head.classList.contains("more");
    box.addEventListener("change", () => {
      for (const row of [table.tHead.rows[0], ...rows]) {
        row.cells[place].hidden = !box.checked;
        row.cells[place].classList.remove("more");
      }
    });
    label.append(box, " " + head.dataset.name);
    list.append(label);
  });
  choices.hidden = false;
}
const open = () => {
  const row = location.hash.startsWith("#row-") && document.getElementById(location.hash.slice(1));
  if (row) row.open = true;
};
addEventListener("hashchange", open);
open();
