// ---- the main figure: score against cost, with axes to choose, arms to isolate, and a brush
// The same specification with the axes that are chosen.
function withAxes(spec) {
  const [cost, score] = frontAxes(), zoom = chosen("zoom"), { x, y } = chosen("brush") || {};
  const given = { cost: cost.column, score: score.column, cost_factor: cost.factor, brush: x && { x, y } };
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

let drawnBrush = "null";
async function drawFront(figure) {
  drawnBrush = state.brush;
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
    drawnBrush = brush ? JSON.stringify({ panel: Number(/\d+$/.exec(brush.unit)[0]), x, y }) : "null";
    choose({ brush: drawnBrush });
  });
  view.addDataListener("picked_store", (name, picked) => {
    choose({ arms: JSON.stringify(picked.map((one) => one.values[0])) });
  });
  return view;
}

function isolate(arm, several) {
  const before = chosen("arms"), others = several ? before.filter((one) => one !== arm) : [];
  const again = before.includes(arm) && (several || before.length === 1);
  choose({ arms: JSON.stringify(again ? others : [...others, arm]) });
}

// The figure as it is shown: Vega's marks over the image of the dots, where there is one, on the page's ground.
async function svgOf(view) {
  const text = await view.toSVG(), dots = find("canvas.dots", frontFigure), size = 'width="100%" height="100%"';
  const ground = `<rect ${size} fill="${pageConfig().background}"/>`;
  const image = dots && `<image ${size} preserveAspectRatio="none" href="${dots.toDataURL()}"/>`;
  return dots ? text.replace(/<svg[^>]*>/, (opening) => opening + ground + image) : text;
}

async function pngOf(view) {
  const marks = await view.toCanvas(2), made = marks.cloneNode(), brush = made.getContext("2d");
  brush.fillStyle = pageConfig().background;
  brush.fillRect(0, 0, made.width, made.height);
  [...all("canvas.dots", frontFigure), marks].forEach((one) => brush.drawImage(one, 0, 0, made.width, made.height));
  return made.toDataURL();
}

function save(name, content, type) {
  const href = type ? URL.createObjectURL(new Blob([content], { type })) : content;
  Object.assign(element("a"), { href, download: `${document.title.split(" ")[0]}-${name}` }).click();
}

function startFront() {
  const view = () => views.get(frontFigure), controls = find("#pareto .controls");
  const [zoom, reset] = all("button", controls);
  controls.hidden = false;
  controls.addEventListener("change", ({ target }) =>
    choose({ [target.name]: target.value, brush: "null", zoom: "{}" }));
  zoom.addEventListener("click", () => {
    const { panel, x, y } = chosen("brush");
    choose({ zoom: JSON.stringify({ ...chosen("zoom"), [panel]: { x, y } }), brush: "null" });
  });
  reset.addEventListener("click", () => choose({ ...DEFAULTS, trial: state.trial }));
  find(".under", frontFigure).append(
    press("SVG", async () => save("front.svg", await svgOf(view()), "image/svg+xml")),
    press("PNG", async () => save("front.png", await pngOf(view()))),
    press("CSV", () => everyPoint().then((rows) => save("points.csv", csvOf(rows), "text/csv"), tellFailure)));
  all("button.arm").forEach((one) => one.addEventListener("click", (event) =>
    isolate(one.dataset.arm, event.shiftKey || event.ctrlKey || event.metaKey)));
  onChange((changed) => {
    const arms = chosen("arms");
    if (isMany && changed.has("arms") && view()) paintDots(view());
    zoom.disabled = !chosen("brush");
    all("input", controls).forEach((one) => { one.checked = state[one.name] === one.value; });
    all("button.arm").forEach((one) => one.setAttribute("aria-pressed", arms.includes(one.dataset.arm)));
    const isOther = ["score", "cost", "scale", "zoom"].some((name) => changed.has(name));
    if (view() && (isOther || state.brush !== drawnBrush)) drawFront(frontFigure);
  });
}

if (frontFigure) {
  drawers.set(frontFigure, drawFront);
  startFront();
  startPoints();
}
