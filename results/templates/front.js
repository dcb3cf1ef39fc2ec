// ---- the main figure: score against cost, with axes to choose and arms to isolate
// The same specification with the axes that are chosen.
function withAxes(spec) {
  const [cost, score] = frontAxes();
  const given = { cost: cost.column, score: score.column, cost_factor: cost.factor };
  spec.params.forEach((one) => { if (one.name in given) one.value = given[one.name]; });
  spec.concat.forEach((panel, place) => {
    const [marks] = panel.layer, { x, y } = marks.encoding, ends = cost.domains[place];
    x.title = cost.title;
    Object.assign(x.scale, state.scale === "log" ? { type: "log", zero: undefined } : { type: "linear", zero: false });
    y.title = score.titles[place];
    y.scale.domain = score.views[place].domain;
    if (ends) x.scale.domain = ends; else delete x.scale.domain;
  });
  return isMany ? withoutDots(spec) : spec;
}

async function drawFront(figure) {
  const view = await draw(figure, withAxes);
  if (isMany) paintDots(view);
  view.addDataListener("picked_store", (name, picked) => {
    choose({ arms: JSON.stringify(picked.map((one) => one.values[0])) });
  });
}

function isolate(arm, several) {
  const before = chosenArms(), others = several ? before.filter((one) => one !== arm) : [];
  const again = before.includes(arm) && (several || before.length === 1);
  choose({ arms: JSON.stringify(again ? others : [...others, arm]) });
}

function startFront() {
  const view = () => views.get(frontFigure), controls = find("#pareto .controls");
  controls.hidden = false;
  controls.addEventListener("change", ({ target }) => choose({ [target.name]: target.value }));
  all("button.arm").forEach((one) => one.addEventListener("click", (event) =>
    isolate(one.dataset.arm, event.shiftKey || event.ctrlKey || event.metaKey)));
  onChange((changed) => {
    const arms = chosenArms();
    if (isMany && changed.has("arms") && view()) paintDots(view());
    all("input", controls).forEach((one) => { one.checked = state[one.name] === one.value; });
    all("button.arm").forEach((one) => one.setAttribute("aria-pressed", arms.includes(one.dataset.arm)));
    if (view() && ["score", "cost", "scale"].some((name) => changed.has(name))) drawFront(frontFigure);
  });
}

if (frontFigure) {
  drawers.set(frontFigure, drawFront);
  startFront();
  startPoints();
}
