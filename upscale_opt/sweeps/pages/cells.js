"use strict";
const MOST_SHOWN = 500;
const number = (value) => (typeof value === "number" ? value : null);
const shown = (value) => value === null ? "" : number(value) !== null && !Number.isInteger(value)
  ? String(Number(value.toPrecision(4))) : String(value);

// Conditions such as method=auto or gap<0.1; any other word must be somewhere in the row.
function conditions(text, columns) {
  return text.trim().split(/\s+/).filter(Boolean).map((word) => {
    const parts = /^([a-z0-9_]+)(<=|>=|=|<|>)(.*)$/.exec(word);
    const at = parts ? columns.indexOf(parts[1]) : -1;
    if (at < 0) return (row) => row.some((value) => shown(value).toLowerCase().includes(word.toLowerCase()));
    const [, , sign, given] = parts;
    if (sign === "=") return (row) => shown(row[at]) === given || (given !== "" && row[at] === Number(given));
    const limit = Number(given);
    return (row) => number(row[at]) !== null && (sign[0] === "<" ? row[at] < limit || (sign === "<=" && row[at] === limit)
      : row[at] > limit || (sign === ">=" && row[at] === limit));
  });
}

function compare(a, b) {
  if (a === b) return 0;
  if (a === null || b === null) return a === null ? 1 : -1;
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
}

for (const input of document.querySelectorAll(".filter")) {
  const name = input.dataset.table, table = document.getElementById(name);
  const { columns, rows } = JSON.parse(document.getElementById(`${name}-data`).textContent);
  let by = -1, down = false;
  const head = table.createTHead().insertRow(), body = table.createTBody();
  const draw = () => {
    const wanted = conditions(input.value, columns);
    const found = rows.filter((row) => wanted.every((fits) => fits(row)));
    if (by >= 0) found.sort((a, b) => (a[by] === null || b[by] === null || !down ? 1 : -1) * compare(a[by], b[by]));
    body.replaceChildren(...found.slice(0, MOST_SHOWN).map((row) => {
      const line = document.createElement("tr");
      for (const value of row) {
        const cell = line.insertCell();
        cell.textContent = shown(value);
        if (number(value) !== null) cell.className = "number";
      }
      return line;
    }));
    const hidden = found.length > MOST_SHOWN ? `, the first ${MOST_SHOWN} shown` : "";
    document.getElementById(`${name}-count`).textContent = `${found.length} of ${rows.length} rows${hidden}`;
    [...head.cells].forEach((cell, i) => {
      cell.textContent = columns[i] + (i === by ? (down ? " \u25be" : " \u25b4") : "");
      cell.setAttribute("aria-sort", i === by ? (down ? "descending" : "ascending") : "none");
    });
  };
  columns.forEach((column, i) => {
    const cell = document.createElement("th");
    cell.tabIndex = 0;
    const sort = () => { down = by === i && !down; by = i; draw(); };
    cell.addEventListener("click", sort);
    cell.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
    head.append(cell);
  });
  input.addEventListener("input", draw);
  draw();
}
