// ---- the main figure: score against cost, with axes to choose, arms to isolate, and a brush
// The same specification with the axes that are chosen.
function withAxes(spec) {
  const [cost, score] = frontAxes(), zoom = chosen("zoom");
  const given = { cost: cost.column, score: score.column, cost_factor: cost.factor };
  spec.params.forEach((one) => { if (one.name in given) one.value = given[one.name]; });
  spec.concat.forEach((panel, place) => {
    const [marks, below] = panel.layer, { x, y } = marks.encoding, closer = zoom[place];
    x.title = cost.title;
    Object.assign(x.scale, state.scale === "log" ? { type: "log", zero: undefined } : { type: "linear", zero: false });
    y.title = score.titles[place];
    y.scale.domain = closer ? closer.y : score.views[place].domain;
    const ends = closer ? closer.x : cost.domains[place];
    if (ends) x.scale.domain = ends; else delete x.scale.domain;
    below.data.values = [{ text: closer ? "" : score.views[place].below }];
  });
  return isMany ? withoutDots(spec) : spec;
}

async function drawFront(figure) {
  const view = await draw(figure, withAxes);
  if (isMany) {
    paintDots(view);
    view.addEventListener("click", (event) => {
      const row = chosen("brush") ? null : pointAt(view, event);
      if (row) choose({ trial: row.trial_id });
    });
  }
  // The brush is in one panel: its name ends with the panel's number.
  view.addDataListener("brush_store", (name, [brush]) => {
    const [x, y] = brush ? brush.values.map((ends) => ends.map(Number).sort((a, b) => a - b)) : [];
    choose({ brush: brush ? JSON.stringify({ panel: Number(/\d+$/.exec(brush.unit)[0]), x, y }) : "null" });
  });
  view.addDataListener("picked_store", (name, picked) => {
    choose({ arms: JSON.stringify(picked.map((one) => one.values[0])) });
  });
  return view;
}

function isolate(label, several) {
  const before = chosen("arms"), others = several ? before.filter((one) => one !== label) : [];
  const again = before.includes(label) && (several || before.length === 1);
  choose({ arms: JSON.stringify(again ? others : [...others, label]) });
}

function group(title, name, options) {
  const box = element("fieldset", undefined, "choice");
  box.append(element("legend", title));
  options.forEach(([choice, text]) => {
    const label = element("label"), input = element("input");
    Object.assign(input, { type: "radio", name, value: choice, checked: state[name] === choice });
    input.addEventListener("change", () => choose({ [name]: choice, brush: "null", zoom: "{}" }));
    label.append(input, element("span", text));
    box.append(label);
  });
  return box;
}

function save(name, content, type) {
  const link = element("a");
  link.href = content instanceof Blob || type ? URL.createObjectURL(new Blob([content], { type })) : content;
  link.download = `${document.title.split(" ")[0]}-${name}`;
  link.click();
}

function startFront() {
  const short = (one) => [one.column, one.short], view = () => views.get(frontFigure);
  const zoom = press("Zoom to selection", () => {
    const brush = chosen("brush");
    choose({ zoom: JSON.stringify({ ...chosen("zoom"), [brush.panel]: { x: brush.x, y: brush.y } }), brush: "null" });
  });
  zoom.disabled = true;
  find("#pareto .controls").append(
    group("score", "score", frontMeta.scores.map(short)), group("cost", "cost", frontMeta.costs.map(short)),
    group("scale", "scale", [["linear", "linear"], ["log", "log"]]), zoom,
    press("Reset", () => choose({ ...DEFAULTS, trial: state.trial })));
  find(".under", frontFigure).append(
    press("SVG", async () => save("front.svg", await view().toSVG(), "image/svg+xml")),
    press("PNG", async () => save("front.png", await view().toImageURL("png", 2))),
    press("CSV", () => save("points.csv", csvOfPoints(), "text/csv")));
  all("button.arm").forEach((one) => one.addEventListener("click", (event) =>
    isolate(one.dataset.label, event.shiftKey || event.ctrlKey || event.metaKey)));
  onChange((changed) => {
    const arms = chosen("arms");
    if (isMany && changed.has("arms") && view()) paintDots(view());
    if (changed.has("brush")) zoom.disabled = !chosen("brush");
    all("#pareto .controls input").forEach((one) => { one.checked = state[one.name] === one.value; });
    all("button.arm").forEach((one) => one.setAttribute("aria-pressed", arms.includes(one.dataset.label)));
    const isCleared = changed.has("brush") && !chosen("brush") && view() && view().data("brush_store").length;
    const isOther = ["score", "cost", "scale", "zoom"].some((name) => changed.has(name));
    if ((isCleared || isOther) && view()) drawFront(frontFigure);
  });
}

if (frontFigure) {
  drawers.set(frontFigure, drawFront);
  startFront();
  startPoints();
}
