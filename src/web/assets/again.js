// Asks for the page again every few seconds and swaps in the parts that changed. The page is complete without it.
"use strict";
(() => {
  const EVERY = 3000;
  // What this script says, in the reader's language.
  const words = document.currentScript.dataset;
  const link = document.getElementById("link");
  const say = (text, state) => {
    if (link) {
      link.textContent = text;
      link.className = "link " + state;
    }
  };

  // Someone fills in or reads something in this part: leave it alone until they are done.
  const inUse = (part) => {
    const active = document.activeElement;
    const writing = part.contains(active) && active.closest("form") !== null;
    const chosen = getSelection();
    return writing || (chosen !== null && !chosen.isCollapsed && part.contains(chosen.anchorNode));
  };

  // Where the keyboard was: the same link or summary again.
  const place = (part) => {
    const active = document.activeElement;
    if (!part.contains(active)) return null;
    return [...part.querySelectorAll("a, button, summary, [tabindex]")].indexOf(active);
  };

  const swap = (part, fresh) => {
    if (part.innerHTML === fresh.innerHTML || inUse(part)) return;
    const open = new Set([...part.querySelectorAll("details[open][data-keep]")].map((d) => d.dataset.keep));
    for (const details of fresh.querySelectorAll("details[data-keep]")) {
      if (open.delete(details.dataset.keep)) details.open = true;
    }
    // What is being read is no longer in the list: it stays until it is closed.
    if (open.size > 0) return;
    if (part.innerHTML === fresh.innerHTML) return;
    const at = place(part);
    const moved = [...part.querySelectorAll(".scroll")].map((s) => s.scrollLeft);
    part.replaceChildren(...fresh.childNodes);
    [...part.querySelectorAll(".scroll")].forEach((s, n) => (s.scrollLeft = moved[n] ?? 0));
    if (at !== null && at >= 0) part.querySelectorAll("a, button, summary, [tabindex]")[at]?.focus({ preventScroll: true });
  };

  const ask = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "error" });
      if (!answer.ok) throw new Error(answer.statusText);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of document.querySelectorAll("main > section[id]")) {
        const fresh = page.getElementById(part.id);
        if (fresh) swap(part, fresh);
      }
      say(words.fresh, "on");
    } catch {
      say(words.lost, "off");
    }
  };

  const round = async () => {
    await ask();
    setTimeout(round, EVERY);
  };
  setTimeout(round, EVERY);
  document.addEventListener("visibilitychange", ask);
})();
