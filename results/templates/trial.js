// ---- one trial: its settings and its operating points
let trials = null;
function trialsData() {
  if (trials) return trials;
  trials = JSON.parse(find("#trials").textContent);
  const { texts, places = [] } = trials.columns[0];
  trials.row = new Map(places.map((at, row) => [texts[at], row]));
  return trials;
}
function pairs(entries) {
  const table = element("table"), body = table.createTBody();
  entries.forEach(([name, what]) => body.insertRow().append(element("td", name), element("td", shown(what))));
  return table;
}
// One word for a shell, whatever it is made of.
const word = (text) => (/^[\w./][\w./-]*$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

// Commands about a trial, to be pasted where the folder of runs is.
function commandsOf(trial, points, data) {
  const runOf = (one) => word(`runs/${value(data.runs, data.row.get(one))}`);
  const run = runOf(trial), id = word(trial), last = points[points.length - 1];
  const made = [["run it again", `transtailor reproduce ${run} ${id}`], ["its log", `transtailor logs ${run} ${id}`]];
  if (last) {
    made.push(["save its sub-model", `transtailor reproduce ${run} ${id} --point ${last.point} --save models`]);
    const rivals = pointRows.filter((row) => row.arm === last.arm && row.panel === last.panel);
    const rank = (row) => (typeof row.validation_score === "number" ? row.validation_score : -Infinity);
    const best = rivals.reduce((one, other) => (rank(other) > rank(one) ? other : one));
    const rival = word(best.trial_id), runs = [...new Set([run, runOf(best.trial_id)])].map((one) => ` --run ${one}`);
    if (rival !== id) made.push(["compare with its arm's best", `transtailor diff ${id} ${rival}${runs.join("")}`]);
  }
  const list = element("dl", undefined, "commands");
  made.forEach(([title, text]) => {
    const line = element("dd"), copy = press("copy", async () => {
      await navigator.clipboard.writeText(text);
      copy.textContent = "copied";
    });
    copy.setAttribute("aria-label", `copy the command: ${title}`);
    line.append(element("code", text), copy);
    list.append(element("dt", title), line);
  });
  return list;
}

const SPLITS = ["training", "validation"];
const quantity = (field, title, more) => ({ field, title, type: "quantitative", scale: { zero: false }, ...more });

// An axis from 0 whose ticks are whole numbers, at most ten or so; Vega's own would be halves where there is room.
function wholeAxis(most) {
  const power = 10 ** Math.floor(Math.log10(Math.max(most / 10, 1)));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => most <= 10 * one);
  return { values: Array.from({ length: Math.floor(most / step) + 1 }, (_, at) => at * step), format: "d" };
}

// The losses of its stages, one after the other, each in its place; dashed: on the validation split.
function drawCurves(place, curves, id) {
  let before = 0;
  const rows = (curves.of[id] || []).flatMap((at, stage) => {
    const [kind, epochs, ...losses] = curves.stages[at], start = before;
    before += epochs[epochs.length - 1];
    return losses.flatMap((several, split) => epochs.map((epoch, number) => ({
      stage, kind: words(kind), epoch: start + epoch, loss: several[number], split: SPLITS[split],
    }))).filter((row) => row.loss !== null);
  });
  if (!rows.length) return place.append(element("p", "Training and validation: not recorded.", "small"));
  const dashed = rows.some((row) => row.split === SPLITS[1]) ? "dashed: validation" : "validation: not recorded";
  place.after(element("p", `Training, every fifth epoch of each stage, and its last; ${dashed}.`, "small"));
  return embed(place, {
    data: { values: rows }, width: 340, height: 130, mark: { type: "line", point: { size: 14 } },
    encoding: {
      x: quantity("epoch", "epochs since its first stage", { axis: wholeAxis(before), scale: { zero: false, nice: false } }),
      y: quantity("loss", "loss"),
      color: { field: "kind", type: "nominal", title: null }, detail: { field: "stage" },
      strokeDash: { field: "split", type: "nominal", legend: null, scale: { domain: SPLITS, range: [[1, 0], [4, 3]] } },
    },
  });
}

// The filters that its last point kept, inside the outline of the original network.
function drawWidths(place, widths, id) {
  if (!widths.of[id]) return place.append(element("p", "Nothing was removed.", "small"));
  const [network, kept] = widths.of[id], [layers, originals] = widths.networks[network];
  const rows = layers.map((layer, at) => ({ layer, kept: kept[at], original: originals[at] }));
  const axis = wholeAxis(Math.max(...originals));
  const bar = (field, mark) => ({
    mark: { type: "bar", ...mark },
    encoding: { x: { field, type: "quantitative", title: "filters", stack: null, axis } },
  });
  return embed(place, {
    data: { values: rows }, width: 240, height: { step: 14 },
    encoding: {
      y: { field: "layer", type: "nominal", sort: null, title: null },
      tooltip: ["layer", "kept", "original"].map((field) => ({ field })),
    },
    layer: [bar("original", { filled: false, stroke: "#8b96a3" }), bar("kept", { color: "#2f78c8" })],
  });
}

// The path of a trial: its scores at each point.
function drawPath(place, points) {
  const scores = points.flatMap((row) => [["test", row.test_score], ["validation", row.validation_score]].map(
    ([split, score]) => ({ removed: 100 * row.removed_macs_fraction, split, score: row.factor * score })));
  const color = { field: "split", type: "nominal", title: null, scale: { range: ["#2f78c8", "#d9651f"] } };
  embed(place, {
    data: { values: scores }, width: 340, height: 150, mark: { type: "line", point: true },
    encoding: { x: quantity("removed", "removed MACs (%)"), y: quantity("score", "score"), color },
  });
}

let opener = null;  // what had the focus, which gets it back
function openTrial(id) {
  const data = trialsData(), row = data.row.get(id);
  if (row === undefined) return;
  views.forEach((view, place) => panel.contains(place) && views.delete(place) && view.finalize());
  const close = press("×", () => choose({ trial: "" }), "close");
  close.setAttribute("aria-label", "close");
  panel.replaceChildren(close, element("h2", value(data.columns[1], row)));
  const facts = data.columns.map((column) => [words(column.name), value(column, row)]);
  const { factor, title } = pointColumn("time"), time = facts.find(([name]) => name === "seconds");
  if (factor && time[1] !== null) time.splice(0, 2, title.replace("rank-", ""), number(2)(time[1] / 3600 * factor));
  panel.append(pairs(facts));
  const points = pointRows.filter((one) => one.trial_id === id).sort((one, other) => one.point - other.point);
  panel.append(commandsOf(id, points, data));
  if (data.errors[id]) panel.append(element("h3", "Error"), element("pre", data.errors[id]));
  if (data.logs[id]) panel.append(element("h3", "End of its log"), element("pre", data.logs[id]));
  if (points.length) {
    const place = element("div", undefined, "wide"), path = element("div");
    panel.append(element("h3", "Operating points"), path, place);
    if (points.length > 1) drawPath(path, points);
    const columns = [{ name: "point", write: String }, ...["removed", "validation", "test"].map(pointColumn)].map(
      (column) => ({ name: column.title || column.name, values: points.map((row) => written(row, column)) }));
    fill(place, { columns, rows: points.length }, Infinity);
  }
  if (data.curves) {
    const curves = element("div"), widths = element("div");
    panel.append(element("h3", "Learning"), curves);
    drawCurves(curves, data.curves, id);
    if (points.length) panel.append(element("h3", "Filters of its last point"), widths);
    if (points.length) drawWidths(widths, data.widths, id);
  }
  const varying = pairs(data.varying.map((column) => [column.name, value(column, row)]));
  if (data.varying.length) panel.append(element("h3", "Settings that vary between trials"), varying);
  const common = element("details");
  common.append(element("summary", "Settings that all trials share"), pairs(Object.entries(data.common)));
  panel.append(common);
  const before = document.activeElement;
  if (before !== document.body && !panel.contains(before)) opener = before;
  panel.hidden = false;
  panel.scrollTop = 0;
  panel.focus({ preventScroll: true });
}
onChange((changed) => {
  if (!changed.has("trial")) return;
  panel.hidden = true;
  if (state.trial) openTrial(state.trial); else if (opener && opener.isConnected) opener.focus({ preventScroll: true });
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !panel.hidden) find(".close", panel).click();
});
