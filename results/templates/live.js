"use strict";
// The report while its sweep runs: asks for the page, writes it here, and loads again when there are new rows. The
// token comes in the address behind "#" and stays in this tab.
(function () {
  const EVERY_MS = 500;
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.has("token")) {
    sessionStorage.setItem("token", given.get("token"));
    given.delete("token");
    history.replaceState(null, "", given.size ? "#" + given : location.pathname);
  }
  async function ask(path) {
    const answer = await fetch(path, { headers: { Authorization: `Bearer ${sessionStorage.getItem("token")}` } });
    if (!answer.ok) throw new Error(await answer.text());
    return answer;
  }
  async function look(version) {
    try {
      if (await (await ask("/version")).text() !== version) return dispatchEvent(new Event("newrows"));
    } catch (gone) {
      document.title = `${document.title.replace(/ \(not served any more\)$/, "")} (not served any more)`;
    }
    return setTimeout(look, EVERY_MS, version);
  }
  async function show() {
    const answer = await ask("/page"), version = answer.headers.get("X-Version"), text = await answer.text();
    document.open();
    document.write(text);
    document.close();
    setTimeout(look, EVERY_MS, version);
  }
  // What cannot be read now, such as a part that is being replaced, may be read soon.
  function tell(error) {
    document.getElementById("state").textContent = error.message;
    setTimeout(() => show().catch(tell), EVERY_MS);
  }
  show().catch(tell);
})();
