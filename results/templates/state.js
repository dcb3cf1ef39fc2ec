"use strict";
// What a reader has chosen: one object of texts, kept in the address behind "#", that figures and tables read and
// write. A link to a trial, "#trial-ID", and to a section, "#pareto", are understood too.
const DEFAULTS = {
  score: "test_score", cost: "macs", scale: "linear", arms: "[]", brush: "null", zoom: "{}", words: "",
  sort: "-test_score", trial: "",
};
const state = { ...DEFAULTS };
const listeners = [];

const onChange = (listener) => listeners.push(listener);

function choose(changes) {
  const changed = Object.keys(changes).filter((name) => state[name] !== changes[name]);
  if (!changed.length) return;
  Object.assign(state, changes);
  const chosen = Object.entries(state).filter(([name, value]) => value !== DEFAULTS[name]);
  const address = chosen.length ? "#" + new URLSearchParams(chosen) : location.pathname + location.search;
  history.replaceState(null, "", address);
  listeners.forEach((listener) => listener(new Set(changed)));
}

function readAddress() {
  const text = location.hash.slice(1);
  const given = new URLSearchParams(text.replace(/^trial-/, "trial="));
  if (text.startsWith("trial-")) return choose({ trial: given.get("trial") });
  if (!text.includes("=")) return undefined;
  return choose({ ...DEFAULTS, ...Object.fromEntries([...given].filter(([name]) => Object.hasOwn(DEFAULTS, name))) });
}

const isRange = (one) => Array.isArray(one) && one.length === 2 && one.every(Number.isFinite);
const isBox = (one) => Boolean(one) && isRange(one.x) && isRange(one.y);
const KINDS = {
  arms: (one) => Array.isArray(one) && one.every((arm) => typeof arm === "string"),
  brush: (one) => one === null || (isBox(one) && Boolean(frontMeta && frontMeta.problems[one.panel])),
  zoom: (one) => Boolean(one) && Object.values(one).every(isBox),
};

// A part of the state as a value. The address may have been typed by hand: what is of another kind is the default.
function chosen(name) {
  let what = null;
  try { what = JSON.parse(state[name]); } catch (refused) { what = undefined; }
  return KINDS[name](what) ? what : JSON.parse(DEFAULTS[name]);
}

window.addEventListener("hashchange", readAddress);
