"use strict";
// What a reader has chosen: one object of texts, kept in the address behind "#", that figures and tables read and
// write. A link to a trial, "#trial-ID", and to a section, "#pareto", are understood too.
const DEFAULTS = {
  score: "test_score", cost: "macs", scale: "linear", arms: "[]", brush: "null", zoom: "{}", words: "",
  sort: "-test_score", trial: "",
};
const state = { ...DEFAULTS };
const listeners = [];

function onChange(listener) {
  listeners.push(listener);
}

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
  if (text.startsWith("trial-")) return choose({ trial: decodeURIComponent(text.slice("trial-".length)) });
  if (!text.includes("=")) return undefined;
  const given = Object.fromEntries(new URLSearchParams(text));
  return choose({ ...DEFAULTS, ...Object.fromEntries(Object.entries(given).filter(([name]) => name in DEFAULTS)) });
}

// A part of the state as a value. The address may have been typed by hand: what cannot be read is the default.
function chosen(name) {
  try {
    return JSON.parse(state[name]);
  } catch (refused) {
    return JSON.parse(DEFAULTS[name]);
  }
}

window.addEventListener("hashchange", readAddress);
