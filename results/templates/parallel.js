// ---- parallel coordinates: a line for each trial through its settings to its score; the points' filter lights lines
const MOST_LINES = 1000, LEVELS = 9;
const parallelPlace = find("#parallel");

function parallelAxes() {
  const { columns, varying } = trialsData(), arms = columns.find((one) => one.name === "arm");
  return [arms, ...varying].filter(
    ({ name, texts = [] }) => name !== "seed" && !name.startsWith("data.") && texts.length > 1).slice(0, 7);
}

// Where a value is on its axis, from 0 to 1: numbers by size, names in order.
function placer(values) {
  const numbers = values.every((one) => one !== "" && Number.isFinite(Number(one)));
  const levels = [...new Set(values)].sort((a, b) => (numbers ? a - b : String(a).localeCompare(b)));
  const share = new Map(levels.map((level, at) => [level, levels.length > 1 ? at / (levels.length - 1) : 0.5]));
  const shown = levels.length <= LEVELS ? levels : [levels[0], levels[levels.length - 1]];
  const marks = shown.map((level) => ({ place: share.get(level), text: String(level) }));
  return { place: (what) => share.get(what), marks };
}

function drawParallel() {
  const data = trialsData(), last = new Map();
  pointRows.forEach((row) => {
    if (!last.has(row.trial_id) || row.point > last.get(row.trial_id).point) last.set(row.trial_id, row);
  });
  const ids = [...last.keys()].filter((id) => data.row.has(id)).slice(0, MOST_LINES);
  const scores = ids.map((id) => last.get(id).factor * last.get(id).test_score);
  const axes = parallelAxes(), lines = [], marks = [];
  const lit = new Set(selectedPoints().map((row) => row.trial_id)), some = lit.size < last.size;
  const of = (at) => ({ trial_id: ids[at], lit: some && lit.has(ids[at]) });
  const known = scores.filter(Number.isFinite), low = Math.min(...known), high = Math.max(...known);
  axes.forEach((axis, order) => {
    const values = ids.map((id) => value(axis, data.row.get(id))), { place, marks: levels } = placer(values);
    values.forEach((what, at) => lines.push({ ...of(at), axis: axis.name, order, place: place(what) }));
    levels.forEach((mark) => marks.push({ axis: axis.name, ...mark }));
  });
  scores.forEach((score, at) => lines.push({
    ...of(at), axis: "test", order: axes.length, place: (score - low) / (high - low || 1),
  }));
  [[0, low], [1, high]].forEach(([place, score]) => marks.push({ axis: "test", place, text: score.toFixed(2) }));
  const top = { labelAngle: 0, grid: true, domain: false, orient: "top", labelLimit: 150 };
  const x = { field: "axis", type: "ordinal", sort: [...axes.map((one) => one.name), "test"], title: null, axis: top };
  const y = { field: "place", type: "quantitative", axis: null };
  return embed(parallelPlace, {
    description: "parallel coordinates of the trials",
    width: Math.max(200, parallelPlace.clientWidth - 40), height: 260,
    layer: [
      { data: { values: lines }, mark: { type: "line", strokeWidth: 1.2 }, encoding: {
        x, y, detail: { field: "trial_id" }, order: { field: "order", type: "quantitative" },
        color: { condition: { test: "datum.lit", value: "#d9651f" }, value: "#2f78c8" },
        opacity: { condition: { test: "datum.lit", value: 0.8 }, value: some ? 0.06 : 0.25 } } },
      { data: { values: marks }, mark: { type: "text", dx: 5, align: "left", fontSize: 11 },
        encoding: { x, y, text: { field: "text" } } },
    ],
  }, lines.length);
}
if (parallelPlace && pointsFigure) {
  let waits = 0;
  const wait = () => sight.observe(waiting.add(parallelPlace) && parallelPlace);
  drawers.set(parallelPlace, drawParallel);
  waiting.add(parallelPlace);
  onChange((changed) => {
    if (!["words", "arms", "brush"].some((name) => changed.has(name))) return;
    clearTimeout(waits);
    waits = setTimeout(wait, 150);
  });
}
