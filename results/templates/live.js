"use strict";
// The report while its sweep runs: asks for the page, writes it here, and loads again when one of new rows is made. The
// token comes in the address behind "#" and stays in this tab.
(function () {
  const AGAIN_MS = 500;
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.has("token")) {
    sessionStorage.setItem("token", given.get("token"));
    given.delete("token");
    history.replaceState(null, "", given.size ? "#" + given : location.pathname);
  }
  const ask = (path) => fetch(path, { headers: { Authorization: `Bearer ${sessionStorage.getItem("token")}` } });
  // The server answers when the report of newer rows is made, or after some seconds with the same version.
  async function look(version) {
    try {
      const answer = await ask(`/version?${version}`);
      if (!answer.ok || await answer.text() !== version) return dispatchEvent(new Event("newrows"));
    } catch (gone) {
      document.title = `${document.title.replace(/ \(not served any more\)$/, "")} (not served any more)`;
      await new Promise((done) => setTimeout(done, AGAIN_MS));
    }
    return look(version);
  }
  async function show() {
    const answer = await ask("/page"), text = await answer.text();
    if (!answer.ok) throw new Error(text);
    document.open();
    document.write(text);
    document.close();
    look(answer.headers.get("X-Version"));
  }
  // What cannot be read now, such as a part that is being replaced, may be read soon.
  function tell(error) {
    document.getElementById("state").textContent = error.message;
    setTimeout(() => show().catch(tell), AGAIN_MS);
  }
  show().catch(tell);
})();
