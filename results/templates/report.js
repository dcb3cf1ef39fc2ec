"use strict";
(function () {
  const page = document.documentElement;
  const find = (selector, within) => (within || document).querySelector(selector);
  const all = (selector, within) => Array.from((within || document).querySelectorAll(selector));
  const tip = find("#tip"), panel = find("#trial");

  // Choices made on this page are stored if the browser allows it.
  const kept = (store) => ({
    get(name) { try { return window[store].getItem(name); } catch (refused) { return null; } },
    set(name, value) { try { window[store].setItem(name, value); } catch (refused) { return; } },
  });
  const forever = kept("localStorage"), thisTab = kept("sessionStorage");

  const element = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };

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
    if (left) {
      const more = element("button", `show ${left.toLocaleString("en")} more rows`);
      more.addEventListener("click", () => fill(place, data, rows, Infinity));
      place.append(more);
    }
    if (data.left_out) place.append(element("p", `${data.left_out} more rows: the query gives them.`, "small"));
  }
  all("figure").forEach((figure) => find("details.numbers", figure).addEventListener("toggle", (event) => {
    const place = find("div", event.target);
    if (event.target.open && !place.firstChild) {
      const data = dataOf(figure);
      fill(place, data, Array.from({ length: data.rows }, (nothing, row) => row), MOST);
    }
  }));

  // ---- pointing at figures
  const NEAR = 14;
  function nearest(data, x, y) {
    const hits = data.hits;
    let best = -1, least = NEAR * NEAR;
    for (let at = 0; at < hits.length; at += 5) {
      const dx = Math.max(hits[at] - x, 0, x - hits[at] - hits[at + 2]);
      const dy = Math.max(hits[at + 1] - y, 0, y - hits[at + 1] - hits[at + 3]);
      const distance = dx * dx + dy * dy;
      if (distance < least || (distance === least && hits[at + 4] < 0)) { least = distance; best = at; }
    }
    return best;
  }
  function tell(data, row, event) {
    tip.replaceChildren();
    if (row < 0) {
      tip.append(element("div", data.notes[-row - 1]));
    } else {
      tip.append(element("b", data.titled_by.map((at) => shown(value(data.columns[at], row))).join(", ")));
      data.columns.forEach((column, at) => {
        const what = value(column, row);
        if (what === null || data.titled_by.includes(at)) return;
        const line = element("div");
        line.append(element("span", words(column.name) + " "), shown(what));
        tip.append(line);
      });
    }
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const x = event.clientX + 16 + box.width > innerWidth ? event.clientX - box.width - 12 : event.clientX + 16;
    tip.style.left = Math.max(4, x) + "px";
    tip.style.top = Math.max(4, Math.min(event.clientY + 14, innerHeight - box.height - 6)) + "px";
  }
  function ringAt(svg, data, at) {
    let ring = find(".ring", svg);
    if (!ring) {
      ring = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      ring.setAttribute("class", "ring");
      svg.append(ring);
    }
    const [x, y, width, height] = data.hits.slice(at, at + 4), air = width || height ? 1.5 : 6;
    const set = { x: x - air, y: y - air, width: width + 2 * air, height: height + 2 * air, rx: width || height ? 2 : air };
    Object.entries(set).forEach(([name, amount]) => ring.setAttribute(name, amount));
  }
  function quiet(svg) {
    tip.hidden = true;
    svg.classList.remove("pointing");
    const ring = find(".ring", svg);
    if (ring) ring.remove();
  }
  all(".plot svg").forEach((svg) => {
    const figure = svg.closest("figure");
    const pointed = (event) => {
      const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
      const data = dataOf(figure);
      return [data, nearest(data, (event.clientX - box.left) * scale, (event.clientY - box.top) * scale)];
    };
    let waiting = 0;
    svg.addEventListener("pointermove", (event) => {
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(() => {
        const [data, at] = pointed(event);
        if (at < 0) return quiet(svg);
        const row = data.hits[at + 4];
        svg.classList.toggle("pointing", row >= 0 && data.columns.some((column) => column.name === "trial_id"));
        ringAt(svg, data, at);
        tell(data, row, event);
      });
    });
    svg.addEventListener("pointerleave", () => { cancelAnimationFrame(waiting); quiet(svg); });
    svg.addEventListener("click", (event) => {
      const [data, at] = pointed(event);
      const column = data.columns.find((one) => one.name === "trial_id");
      if (at >= 0 && column && data.hits[at + 4] >= 0) location.hash = "trial-" + value(column, data.hits[at + 4]);
    });
  });

  // ---- legends: pointing at a name brings its series to the front, a click keeps it there
  all("ul.legend").forEach((legend) => {
    const figure = legend.closest("figure"), plot = find(".plot", figure), chosen = new Set();
    function light(pointed) {
      const on = new Set(chosen);
      if (pointed !== undefined) on.add(pointed);
      plot.classList.toggle("dim", on.size > 0);
      all(".series", plot).forEach((one) => one.classList.toggle("on", on.has(one.dataset.series)));
      all("li", legend).forEach((one) => one.classList.toggle("on", chosen.has(one.dataset.series)));
    }
    all("li", legend).forEach((item) => {
      const series = item.dataset.series;
      const toggle = () => { if (!chosen.delete(series)) chosen.add(series); light(); };
      item.addEventListener("pointerenter", () => light(series));
      item.addEventListener("pointerleave", () => light());
      item.addEventListener("click", toggle);
      item.addEventListener("keydown", (event) => { if (event.key === "Enter") toggle(); });
    });
  });

  // ---- one trial: its settings and its operating points
  let trials = null;
  function trialsData() {
    if (!trials) {
      trials = JSON.parse(find("#trials").textContent);
      const ids = trials.columns.find((column) => column.name === "trial_id");
      trials.row = new Map();
      for (let row = 0; ids.places && row < ids.places.length; row++) trials.row.set(value(ids, row), row);
    }
    return trials;
  }
  function pairs(entries) {
    const table = element("table"), body = table.createTBody();
    entries.forEach(([name, what]) => {
      const line = body.insertRow();
      line.append(element("td", name), element("td", shown(what)));
    });
    return table;
  }
  function pointsOf(id) {
    for (const figure of all("#pareto figure")) {
      const data = dataOf(figure), column = data.columns.find((one) => one.name === "trial_id");
      const place = column && column.texts ? column.texts.indexOf(id) : -1;
      if (place < 0) continue;
      const rows = column.places.flatMap((at, row) => (at === place ? [row] : []));
      const names = ["point", "removed_macs_fraction", "validation_score", "test_score"];
      return [{ columns: names.map((name) => data.columns.find((one) => one.name === name)), left_out: 0 }, rows];
    }
    return null;
  }
  function open(id) {
    const data = trialsData(), row = data.row.get(id);
    if (row === undefined) return;
    const close = element("button", "×", "close");
    close.setAttribute("aria-label", "close");
    close.addEventListener("click", () => { history.replaceState(null, "", location.pathname + location.search); shut(); });
    panel.replaceChildren(close, element("h2", value(data.columns[1], row)));
    panel.append(pairs(data.columns.map((column) => [words(column.name), value(column, row)])));
    if (data.errors[id]) panel.append(element("h3", "Error"), element("pre", data.errors[id]));
    if (data.varying.length) {
      panel.append(element("h3", "Settings that vary between trials"));
      panel.append(pairs(data.varying.map((column) => [column.name, value(column, row)])));
    }
    const points = pointsOf(id);
    if (points) {
      const place = element("div", undefined, "wide");
      panel.append(element("h3", "Operating points"), place);
      fill(place, points[0], points[1], Infinity);
    }
    const common = element("details");
    common.append(element("summary", "Settings that all trials share"), pairs(Object.entries(data.common)));
    panel.append(common);
    panel.hidden = false;
    panel.scrollTop = 0;
    panel.focus({ preventScroll: true });
  }
  function shut() { panel.hidden = true; }
  function follow() {
    const match = /^#trial-(.+)$/.exec(location.hash);
    if (match) open(decodeURIComponent(match[1])); else shut();
  }
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
  window.addEventListener("hashchange", follow);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !panel.hidden) find(".close", panel).click();
  });
  follow();

  // ---- a page that is written repeatedly: it reloads itself and keeps the reader's position
  const renew = Number(document.body.dataset.renewS);
  const memory = "place " + location.pathname;
  function come() {
    const before = JSON.parse(thisTab.get(memory) || "null");
    thisTab.set(memory, "null");
    if (!before) return;
    const folds = all("details");
    before.open.forEach((place) => { if (folds[place]) folds[place].open = true; });
    history.scrollRestoration = "manual";
    requestAnimationFrame(() => requestAnimationFrame(() => scrollTo(0, before.y)));
  }
  function go() {
    const open = all("details").flatMap((one, place) => (one.open ? [place] : []));
    thisTab.set(memory, JSON.stringify({ y: scrollY, open }));
    location.reload();
  }
  come();
  if (renew > 0) setTimeout(go, renew * 1000);
})();
