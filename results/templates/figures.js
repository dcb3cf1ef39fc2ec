// ---- figures: Vega-Lite draws them; here they get their data, the page's colours and its width
const CANVAS_ABOVE = 3000;  // rows; up to that many marks are elements, which print sharply and can be read aloud
const ONE_COLUMN_BELOW = 760;  // pixels
const MARGIN = 78;  // of a panel: its axis and the space to the next one
const views = new Map();

function records(columns) {
  const made = columns.length ? (columns[0].places || columns[0].values).map(() => ({})) : [];
  columns.forEach((column) => made.forEach((row, at) => { row[column.name] = value(column, at); }));
  return made;
}

function rowsOf(figure) {
  const data = dataOf(figure);
  data.records = data.records || records([...data.columns, ...data.extra]);
  return data.records;
}

function datasetsOf(figure) {
  const tables = Object.entries(dataOf(figure).tables).map(([name, columns]) => [name, records(columns)]);
  // Vega writes into the rows that it is given: it gets its own.
  const rows = figure === frontFigure && isMany ? [] : rowsOf(figure).map((row) => ({ ...row }));
  return { rows, ...Object.fromEntries(tables) };
}

function pageConfig() {
  const style = getComputedStyle(page), colour = (name) => style.getPropertyValue(name).trim();
  const ink = colour("--ink"), soft = colour("--soft"), line = colour("--line");
  const axis = { labelColor: soft, titleColor: soft, gridColor: line, domainColor: soft, tickColor: soft };
  return {
    font: getComputedStyle(document.body).fontFamily, background: colour("--paper"), view: { stroke: null },
    axis: { ...axis, labelFontSize: 11, titleFontSize: 12, titleFontWeight: "normal" }, text: { color: ink },
    title: { color: ink, subtitleColor: soft, anchor: "start", fontSize: 13, subtitleFontSize: 11 },
    legend: { labelColor: ink, titleColor: soft, labelLimit: 400, symbolOpacity: 1, symbolLimit: 0, orient: "top" },
    header: { labelColor: ink, labelFontWeight: "bold", labelLimit: 1000 },
  };
}

// How Vega is called: it evaluates no text, and adds no style to the page.
const EMBED = (rows) => ({
  ast: true, mode: "vega-lite", actions: false, defaultStyle: false, config: pageConfig(),
  renderer: rows > CANVAS_ABOVE ? "canvas" : "svg", tooltip: { disableDefaultStyle: true },
});

// The specification for a place of this width: there is room for one or two panels beside each other, and some names.
function fitted(spec, width) {
  const fit = (key, one) => (key === "legend" && one ? { ...one, columns: Math.min(6, Math.ceil(width / 120)) } : one);
  const made = JSON.parse(JSON.stringify(spec), fit), left = (made.usermeta || {}).left;
  const inside = (columns) => Math.max(140, Math.floor((width - (left || 0)) / columns) - (left ? 24 : MARGIN));
  if (made.concat) {
    if (width < ONE_COLUMN_BELOW) made.columns = 1;
    made.concat.forEach((panel) => { if (typeof panel.width === "number") panel.width = inside(made.columns); });
  } else if (made.spec) {
    made.spec.width = inside(1);
  } else if (typeof made.width === "number") {
    made.width = inside(1);
  }
  return made;
}

// Draws a figure instead of what was drawn there before.
async function draw(figure, change) {
  const place = find(".plot", figure), data = dataOf(figure);
  const spec = fitted(change ? change(structuredClone(data.spec)) : data.spec, place.clientWidth);
  (spec.params || []).filter((one) => one.name === "isolated").forEach((one) => { one.value = chosenArms(); });
  const datasets = datasetsOf(figure), description = find("figcaption", figure).textContent;
  const { view } = await vegaEmbed(place, { ...spec, datasets, description }, EMBED(datasets.rows.length));
  if (views.has(figure)) views.get(figure).finalize();
  views.set(figure, view);
  figure.dataset.drawn = "";
  return view;
}

// Those in sight are drawn at once, the others when the browser has time: a page is printed with all of them.
const drawers = new Map();  // figures that are drawn in a way of their own
const waiting = new Set(all("figure"));
const drawn = (figure) => waiting.delete(figure) && (drawers.get(figure) || draw)(figure);
const sight = new IntersectionObserver((seen) => {
  seen.filter((one) => one.isIntersecting).forEach((one) => { sight.unobserve(one.target); drawn(one.target); });
}, { rootMargin: "400px" });
const whenIdle = window.requestIdleCallback || ((call) => setTimeout(call, 50));
async function drawNext() {
  const [figure] = waiting;
  if (!figure) return;
  await drawn(figure);
  whenIdle(drawNext);
}

const canIsolate = (figure) => (loaded.get(figure)?.spec.params || []).some((one) => one.name === "isolated");
onChange((changed) => {
  if (!changed.has("arms")) return;
  views.forEach((view, figure) => canIsolate(figure) && view.signal("isolated", chosenArms()).runAsync());
});

const redraw = () => views.forEach((view, figure) => (drawers.get(figure) || draw)(figure));

let lastWidth = innerWidth, resizing = 0;
addEventListener("resize", () => {
  if (innerWidth === lastWidth) return;
  lastWidth = innerWidth;
  clearTimeout(resizing);
  resizing = setTimeout(redraw, 150);
});
