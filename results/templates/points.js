// ---- one table of all operating points: only the rows in sight are elements
const ROW_PX = 28, AIR = 8;
const number = (digits) => new Intl.NumberFormat(
  "en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).format;
const POINT_COLUMNS = [
  { name: "network" }, { name: "dataset" }, { name: "arm" }, { name: "seed", write: String },
  { name: "asked", title: "budget %", column: "asked_removed_macs_fraction", factor: 100, write: number(1) },
  { name: "removed", title: "removed %", column: "removed_macs_fraction", factor: 100, write: number(1) },
  { name: "test", column: "test_score", score: true, write: number(2) },
  { name: "validation", column: "validation_score", score: true, write: number(2) },
  { name: "macs", title: "MACs", write: number(0) }, { name: "params", title: "parameters", write: number(0) },
  { name: "time", column: "device_hours", write: number(2) },
  { name: "trial", column: "trial_id" },
];
const pointColumn = (name) => POINT_COLUMNS.find((one) => one.name === name);
const pointsFigure = find("#pareto figure"), pointsPlace = find("#points .rows");
let pointRows = [], shownRows = [];

function readPoint(row, column) {
  const what = row[column.column || column.name];
  return typeof what === "number" ? what * (column.score ? row.factor : column.factor || 1) : what;
}
function written(row, column) {
  const what = readPoint(row, column);
  return typeof what === "number" ? column.write(what) : shown(what);
}

// Words such as `taylor test>94 seed=1`: a comparison with a column, or a text that is in one of them.
const SIGNS = {
  ">": (a, b) => a - b > 1e-9, "<": (a, b) => b - a > 1e-9, ">=": (a, b) => b - a < 1e-9, "<=": (a, b) => a - b < 1e-9,
  "=": (a, b) => Math.abs(a - b) < 1e-9, "!=": (a, b) => Math.abs(a - b) >= 1e-9,
};
function matcher(text) {
  const given = text.split(/\s+/).filter(Boolean).map((word) => {
    const [, name, sign, amount] = /^([a-z]+)(>=|<=|!=|>|<|=)(-?\d*\.?\d+(?:e[-+]?\d{1,2})?)$/i.exec(word) || [];
    const column = name && POINT_COLUMNS.find((one) => one.write && one.name.startsWith(name.toLowerCase()));
    return column ? { column, sign, amount: Number(amount) } : { part: word.toLowerCase() };
  });
  const holds = (row, { column, sign, amount, part }) => {
    if (column) return typeof readPoint(row, column) === "number" && SIGNS[sign](readPoint(row, column), amount);
    return POINT_COLUMNS.some((one) => !one.write && String(readPoint(row, one)).toLowerCase().includes(part));
  };
  return (row) => given.every((one) => holds(row, one));
}

function selectedPoints() {
  const arms = new Set(chosenArms()), fits = matcher(state.words);
  return orderedPoints().filter((row) => (!arms.size || arms.has(row.arm)) && fits(row));
}

// All points in the order of the table; a filter keeps the order.
let sorted = [], sortedBy = "";
function orderedPoints() {
  if (sortedBy === state.sort) return sorted;
  sortedBy = state.sort;
  const down = state.sort.startsWith("-"), name = state.sort.replace("-", "");
  const column = POINT_COLUMNS.find((one) => (one.column || one.name) === name) || pointColumn("test");
  sorted = [...pointRows].sort((one, other) => {
    const a = readPoint(one, column), b = readPoint(other, column);
    if (typeof a !== "number" && typeof b !== "number") return (down ? -1 : 1) * String(a).localeCompare(String(b));
    return (typeof a === "number" ? 0 : 1) - (typeof b === "number" ? 0 : 1) || (down ? b - a : a - b);
  });
  return sorted;
}

function fillPoints() {
  all("th", pointsPlace).forEach((head) => {
    const name = head.dataset.column, sorted = state.sort.replace("-", "") === name;
    head.setAttribute("aria-sort", sorted ? (state.sort.startsWith("-") ? "descending" : "ascending") : "none");
  });
  const leftOut = dataOf(pointsFigure).left_out, write = (amount) => amount.toLocaleString("en");
  const others = leftOut ? "; the SQL under the figure gives those that the page does not have" : "";
  shownRows = selectedPoints();
  const every = write(pointRows.length + leftOut);
  find("#points .count").textContent = `${write(shownRows.length)} of ${every} operating points${others}`;
  find("table", pointsPlace).setAttribute("aria-rowcount", shownRows.length + 1);
  showPoints();
}

// The rows in sight, with the height of the others above and below them.
function showPoints() {
  const first = Math.max(0, Math.floor(pointsPlace.scrollTop / ROW_PX) - AIR);
  const last = Math.min(shownRows.length, first + Math.ceil(pointsPlace.clientHeight / ROW_PX) + 2 * AIR);
  const filler = (rows) => {
    const line = element("tr"), cell = line.insertCell();
    Object.assign(cell, { colSpan: POINT_COLUMNS.length, className: "filler" });
    cell.style.height = `${rows * ROW_PX}px`;
    line.setAttribute("aria-hidden", "true");
    return line;
  };
  const lines = shownRows.slice(first, last).map((row, at) => {
    const line = element("tr");
    line.setAttribute("aria-rowindex", first + at + 2);
    line.append(...POINT_COLUMNS.map((column) => element("td", written(row, column), column.write ? "n" : "")));
    return line;
  });
  find("tbody", pointsPlace).replaceChildren(filler(first), ...lines, filler(shownRows.length - last));
}

function startPoints() {
  if (dataOf(pointsFigure).extra.some((one) => one.name === "run")) POINT_COLUMNS.unshift({ name: "run" });
  const { problems, costs } = dataOf(pointsFigure).spec.usermeta;
  const { factor, title } = costs.find((one) => one.column === "device_hours");
  Object.assign(pointColumn("time"), { factor, title: title.split(" ")[0] });
  pointRows = rowsOf(pointsFigure);
  pointRows.forEach((row) => { row.factor = problems[row.panel].factor; });
  const head = find("thead tr", pointsPlace);
  POINT_COLUMNS.forEach((column) => {
    const cell = element("th", undefined, column.write ? "n" : ""), key = column.column || column.name;
    cell.dataset.column = key;
    cell.append(press(column.title || column.name, () => choose({ sort: state.sort === "-" + key ? key : "-" + key })));
    head.append(cell);
  });
  const input = find("#words");
  input.addEventListener("input", () => choose({ words: input.value }));
  pointsPlace.addEventListener("scroll", () => requestAnimationFrame(showPoints));
  onChange((changed) => {
    if (changed.has("words") && input.value !== state.words) input.value = state.words;
    if (["words", "sort", "arms"].some((name) => changed.has(name))) fillPoints();
  });
  fillPoints();
}
