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
function comparisons(text) {
  return text.split(/\s+/).filter(Boolean).map((word) => {
    const [, name, sign, amount] = /^([a-z]+)(>=|<=|!=|>|<|=)(-?\d*\.?\d+(?:e[-+]?\d{1,2})?)$/i.exec(word) || [];
    const column = name && POINT_COLUMNS.find((one) => one.write && one.name.startsWith(name.toLowerCase()));
    return column ? { column, sign, amount: Number(amount) } : { part: word.toLowerCase() };
  });
}
function matcher(text) {
  const holds = (row, { column, sign, amount, part }) => {
    if (column) return typeof readPoint(row, column) === "number" && SIGNS[sign](readPoint(row, column), amount);
    return POINT_COLUMNS.some((one) => !one.write && String(readPoint(row, one)).toLowerCase().includes(part));
  };
  const given = comparisons(text);
  return (row) => given.every((one) => holds(row, one));
}

function selectedPoints() {
  const arms = new Set(chosen("arms")), brush = chosen("brush"), fits = matcher(state.words);
  const [cost, score] = frontAxes();
  const inside = (what, by, [low, high]) => typeof what === "number" && what * by >= low && what * by <= high;
  return orderedPoints().filter((row) => (!brush || (
    row.panel === brush.panel && inside(row[cost.column], cost.factor, brush.x)
      && inside(row[score.column], row.factor, brush.y))) && (!arms.size || arms.has(row.arm)) && fits(row));
}

// All points in the order of the table; a filter keeps the order, so that a brush over many points sorts nothing.
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
  if (isAsked) return askPoints(null);
  return fillWith(selectedPoints());
}

function fillWith(rows, found = rows.length) {
  const write = (amount) => amount.toLocaleString("en"), every = write(pointRows.length + leftOut);
  const others = leftOut && !isAsked ? "; the SQL under the figure gives those that the page does not have" : "";
  shownRows = rows;
  find("#points .count").textContent = `${write(found)} of ${every} operating points${others}`;
  find("table", pointsPlace).setAttribute("aria-rowcount", found + 1);
  showPoints();
}

// ---- points that are too many for the page: the live page's server answers them, each page behind the last key
const leftOut = pointsFigure ? dataOf(pointsFigure).left_out : 0;
const isAsked = "live" in document.body.dataset && leftOut > 0, MOST_ASKED = 10000;
let lastKey = null, questions = 0, found = 0;
async function pageOf(after, most) {
  const given = comparisons(state.words), brush = chosen("brush"), [cost, score] = frontAxes();
  const problem = brush && dataOf(pointsFigure).spec.usermeta.problems[brush.panel];
  const inside = ({ column }, [low, high]) => [[column, ">=", low], [column, "<=", high]];
  const numbers = given.filter((one) => one.column).map(
    ({ column, sign, amount }) => [column.column || column.name, sign, amount]);
  const question = JSON.stringify({
    sort: state.sort, arms: chosen("arms"), texts: given.flatMap((one) => one.part || []), after, most,
    numbers: brush ? [...numbers, ...inside(cost, brush.x), ...inside(score, brush.y)] : numbers,
    problem: problem && [problem.network, problem.dataset, problem.train_images || null],
  });
  const headers = { Authorization: `Bearer ${thisTab.get("token")}` };
  const answer = await fetch(`/points?${encodeURIComponent(question)}`, { headers });
  if (!answer.ok) throw new Error(await answer.text());
  const page = await answer.json();
  return { ...page, rows: records(page.columns) };
}

async function askPoints(after) {
  const mine = ++questions;
  try {
    const { rows, last, count } = await pageOf(after);
    if (mine !== questions) return;
    lastKey = last;
    if (!after) found = count;
    fillWith([...(after ? shownRows : []), ...rows], found);
  } catch (failed) {
    lastKey = after;  // asked for again when the table is scrolled
    if (mine === questions) tellFailure(failed);
  }
}
const tellFailure = ({ message }) => { find("#points .count").textContent = `The server did not answer: ${message}`; };

async function everyPoint(after = null) {
  if (!isAsked) return shownRows;
  const { rows, last } = await pageOf(after, MOST_ASKED);
  return last ? [...rows, ...await everyPoint(last)] : rows;
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
    POINT_COLUMNS.forEach((column) => {
      line.append(cellOf(written(row, column), column.name === "trial", column.write));
    });
    return line;
  });
  find("tbody", pointsPlace).replaceChildren(filler(first), ...lines, filler(shownRows.length - last));
  if (isAsked && lastKey && last === shownRows.length) {
    const key = lastKey;
    lastKey = null;  // until its answer is there
    askPoints(key);
  }
}

function csvOf(rows) {
  const quote = (what) => {
    const text = what === null ? "" : String(what);
    const isFormula = typeof what === "string" && /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text));
    const plain = isFormula ? "'" + text : text;
    return /[",\n\r]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
  };
  const { columns, extra } = dataOf(pointsFigure);
  const names = [...columns, ...extra].map((column) => column.name).filter((name) => name !== "panel");
  return [names, ...rows.map((row) => names.map((name) => row[name]))]
    .map((cells) => cells.map(quote).join(",")).join("\r\n") + "\r\n";
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
    if (["words", "sort", "arms", "brush", "cost", "score"].some((name) => changed.has(name))) fillPoints();
  });
  fillPoints();
}
