const page = document.documentElement;
const find = (selector, within) => (within || document).querySelector(selector);
const all = (selector, within) => Array.from((within || document).querySelectorAll(selector));
const panel = find("#trial");

// Choices made on this page are stored if the browser allows it.
const kept = (store) => ({
  get(name) { try { return window[store].getItem(name); } catch (refused) { return null; } },
  set(name, value) { try { window[store].setItem(name, value); } catch (refused) { return; } },
});
const forever = kept("localStorage"), thisTab = kept("sessionStorage");

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

// ---- light and dark
const themes = ["auto", "light", "dark"], signs = { auto: "◐", light: "○", dark: "●" };
const button = find("#theme");
function dress(theme) {
  if (theme === "auto") page.removeAttribute("data-theme"); else page.dataset.theme = theme;
  button.textContent = signs[theme];
  button.setAttribute("aria-label", "colours: " + theme);
}
let theme = themes.includes(forever.get("theme")) ? forever.get("theme") : "auto";
dress(theme);
button.hidden = false;
button.addEventListener("click", () => {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  forever.set("theme", theme);
  dress(theme);
  redraw();
});

// ---- data: column by column, texts once each
const value = (column, row) => column.texts ? column.texts[column.places[row]] : column.values[row];
const words = (name) => name.replace(/_/g, " ");
function shown(what) {
  if (what === null) return "–";
  if (typeof what === "number") return Math.abs(what) >= 1e5 ? what.toLocaleString("en") : String(what);
  return String(what);
}
const loaded = new Map();
function dataOf(figure) {
  if (!loaded.has(figure)) loaded.set(figure, JSON.parse(find("script", figure).textContent));
  return loaded.get(figure);
}

// ---- tables under figures, built when they are opened
const MOST = 1000;
function fill(place, data, rows, most) {
  const table = element("table"), head = table.createTHead().insertRow(), body = table.createTBody();
  const numeric = data.columns.map((column) => !column.texts);
  data.columns.forEach((column, at) => head.append(element("th", words(column.name), numeric[at] ? "n" : "")));
  rows.slice(0, most).forEach((row) => {
    const line = body.insertRow();
    data.columns.forEach((column, at) => {
      const cell = element("td", shown(value(column, row)), numeric[at] ? "n" : "");
      if (column.name === "trial_id") cell.dataset.trial = "";
      line.append(cell);
    });
  });
  linkTrials(table);
  place.replaceChildren(table);
  const left = rows.length - Math.min(rows.length, most);
  if (left) place.append(press(`show ${left.toLocaleString("en")} more rows`, () => fill(place, data, rows, Infinity)));
  if (data.left_out) place.append(element("p", `${data.left_out} more rows: the query gives them.`, "small"));
}
all("figure").forEach((figure) => find("details.numbers", figure).addEventListener("toggle", (event) => {
  const place = find("div", event.target);
  if (event.target.open && !place.firstChild) {
    const data = dataOf(figure);
    fill(place, data, Array.from({ length: data.rows }, (nothing, row) => row), MOST);
  }
}));

function linkTrials(within) {
  all("td[data-trial]", within).forEach((cell) => {
    const id = cell.firstChild && cell.firstChild.nodeType === Node.TEXT_NODE ? cell.firstChild.data.trim() : "";
    if (!id || id === "–") return;
    const link = element("a", id, "trial");
    link.href = "#trial-" + encodeURIComponent(id);
    cell.firstChild.replaceWith(link);
  });
}
linkTrials(document);
