// ---- a page of a server, which reloads itself where there are new rows, and keeps the reader's position
const memory = "place " + location.pathname;
const before = JSON.parse(thisTab.get(memory) || "null");
thisTab.set(memory, "null");
if (before) {
  const folds = all("details");
  all(".plot").forEach((plot, place) => { plot.style.minHeight = `${before.heights[place]}px`; });
  before.open.map((place) => folds[place]).filter(Boolean).forEach((fold) => {
    fold.open = true;
    fold.dispatchEvent(new Event("toggle"));  // at once: what is in it has its height before the page is scrolled
  });
  history.scrollRestoration = "manual";
  requestAnimationFrame(() => requestAnimationFrame(() => scrollTo(0, before.y)));
}
function reload() {
  const open = all("details").flatMap((one, place) => (one.open ? [place] : []));
  const heights = all(".plot").map((plot) => plot.clientHeight);  // figures are drawn after the page is loaded
  thisTab.set(memory, JSON.stringify({ y: scrollY, open, heights }));
  location.reload();
}
addEventListener("newrows", reload);

readAddress();
waiting.forEach((place) => sight.observe(place));
addEventListener("load", () => whenIdle(drawNext));
