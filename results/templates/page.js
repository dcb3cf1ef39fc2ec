const page = document.documentElement;
const find = (selector, within) => (within || document).querySelector(selector);
const all = (selector, within) => Array.from((within || document).querySelectorAll(selector));

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function press(text, action, kind) {
  const made = element("button", text, kind);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
}

// ---- light and dark, as the system says
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());

// ---- data: column by column, texts once each
const value = (column, row) => column.texts ? column.texts[column.places[row]] : column.values[row];
const words = (name) => name.replace(/_/g, " ");
function shown(what) {
  if (what === null) return "–";
  return typeof what === "number" && Math.abs(what) >= 1e5 ? what.toLocaleString("en") : String(what);
}
const loaded = new Map();
function dataOf(figure) {
  if (!loaded.has(figure)) loaded.set(figure, JSON.parse(find("script", figure).textContent));
  return loaded.get(figure);
}

// ---- tables under figures, built when they are opened
const MOST = 1000;
function fill(place, data, most) {
  const table = element("table"), head = table.createTHead().insertRow(), body = table.createTBody();
  const numeric = data.columns.map((column) => !column.texts);
  data.columns.forEach((column, at) => head.append(element("th", words(column.name), numeric[at] ? "n" : "")));
  for (let row = 0; row < Math.min(data.rows, most); row++) {
    body.insertRow().append(...data.columns.map(
      (column, at) => element("td", shown(value(column, row)), numeric[at] ? "n" : "")));
  }
  place.replaceChildren(table);
  const left = Math.max(0, data.rows - most).toLocaleString("en");
  if (data.rows > most) place.append(press(`show ${left} more rows`, () => fill(place, data, Infinity)));
  if (data.left_out) place.append(element("p", `${data.left_out} more rows: the query gives them.`, "small"));
}
all("figure").forEach((figure) => find("details.numbers", figure).addEventListener("toggle", (event) => {
  const place = find("div", event.target);
  if (event.target.open && !place.firstChild) fill(place, dataOf(figure), MOST);
}));
