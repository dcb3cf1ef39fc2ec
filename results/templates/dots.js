const frontFigure = find("#pareto figure");
const frontMeta = frontFigure && dataOf(frontFigure).spec.usermeta;

function frontAxes() {
  const named = (several, column) => several.find((one) => one.column === column) || several[0];
  return [named(frontMeta.costs, state.cost), named(frontMeta.scores, state.score)];
}

// ---- above MANY points: Vega draws axes, means and lines; the dots are one image under them
const MANY = 5000, DOT_PX = 2, DOT_SHARE = 0.4, FADED_SHARE = 0.03;
const isMany = Boolean(frontFigure) && dataOf(frontFigure).rows > MANY;

function withoutDots(spec) {
  spec.background = "transparent";
  spec.concat.forEach((panel) => panel.layer[0].layer.forEach((layer) => {
    if ((layer.name || "").startsWith("dots")) layer.data = { values: [] };
  }));
  return spec;
}

// Where a panel is in the figure, and where a point is in it; null for a point outside.
function panelsOf(view) {
  const around = view.padding(), [left, top] = [view.origin()[0] + around.left, view.origin()[1] + around.top];
  const marks = view.scenegraph().root.items[0].items, [cost, score] = frontAxes();
  return score.views.map((one, place) => {
    const box = marks.find((mark) => mark.name === `concat_${place}_group`).items[0];
    const x = view.scale(`concat_${place}_x`), y = view.scale(`concat_${place}_y`);
    return (row) => {
      const across = x(row[cost.column] * cost.factor), up = y(row[score.column] * row.factor);
      const isInside = row[cost.column] !== null && across >= 0 && across <= box.width && up >= 0 && up <= box.height;
      return isInside ? [left + box.x + across, top + box.y + up] : null;
    };
  });
}

const channelsOf = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));  // of "#2f78c8"

// Pixels are mixed here: a hundred thousand calls that each fill a rectangle take a second.
function paintDots(view) {
  const place = find(".plot", frontFigure), box = find("svg, canvas.marks", place).getBoundingClientRect();
  const canvas = find("canvas.dots", place) || place.appendChild(element("canvas", undefined, "dots"));
  const sharp = Math.min(devicePixelRatio || 1, 2);
  const [width, height] = [box.width, box.height].map((size) => Math.ceil(size * sharp));
  Object.assign(canvas, { width, height });
  canvas.style.width = `${box.width}px`;
  canvas.style.height = `${box.height}px`;
  const brush = canvas.getContext("2d"), image = brush.createImageData(width, height), { data } = image;
  const colour = view.scale("color"), arms = new Set(chosenArms()), panels = panelsOf(view), size = DOT_PX * sharp;
  const inks = new Map();
  pointRows.forEach((row) => {
    const at = panels[row.panel](row);
    if (!at) return;
    if (!inks.has(row.arm)) inks.set(row.arm, channelsOf(colour(row.arm)));
    const ink = inks.get(row.arm), share = !arms.size || arms.has(row.arm) ? DOT_SHARE : FADED_SHARE;
    const x0 = Math.round(at[0] * sharp - size / 2), y0 = Math.round(at[1] * sharp - size / 2);
    for (let y = Math.max(y0, 0); y < Math.min(y0 + size, height); y++) {
      for (let x = Math.max(x0, 0); x < Math.min(x0 + size, width); x++) {
        const place = 4 * (y * width + x), before = data[place + 3] / 255, after = share + before * (1 - share);
        for (let channel = 0; channel < 3; channel++) {
          data[place + channel] = (ink[channel] * share + data[place + channel] * before * (1 - share)) / after;
        }
        data[place + 3] = 255 * after;
      }
    }
  });
  brush.putImageData(image, 0, 0);
}
