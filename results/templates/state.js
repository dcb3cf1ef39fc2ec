"use strict";
// What a reader has chosen: one object of texts, kept in the address behind "#", that figures and tables read and
// write. A link to a section, "#pareto", is understood too.
const DEFAULTS = { score: "test_score", cost: "macs", scale: "linear", arms: "[]", words: "", sort: "-test_score" };
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
  if (!text.includes("=")) return;
  const given = [...new URLSearchParams(text)].filter(([name]) => Object.hasOwn(DEFAULTS, name));
  choose({ ...DEFAULTS, ...Object.fromEntries(given) });
}

// The arms that stand out. The address may have been typed by hand: what is no list of names is none.
function chosenArms() {
  try {
    const arms = JSON.parse(state.arms);
    return Array.isArray(arms) ? arms.filter((arm) => typeof arm === "string") : [];
  } catch (refused) { return []; }
}

window.addEventListener("hashchange", readAddress);
