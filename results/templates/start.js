// ---- a page that is written again and again loads itself
const { everyS } = document.body.dataset;
if (everyS) setTimeout(() => location.reload(), 1000 * everyS);

readAddress();
waiting.forEach((place) => sight.observe(place));
addEventListener("load", () => whenIdle(drawNext));
