// Keeps the page current: a live page is told what changed, one of the stores' figures asks every few seconds.
// Each is complete without it.
"use strict";
(() => {
  // What this script says, in the reader's language, and which of the two kinds this page is.
  const words = document.currentScript.dataset;
  const link = document.getElementById("link");
  const say = (text, state) => {
    if (link) {
      link.textContent = text;
      link.className = "link " + state;
    }
  };

  // Someone is filling in or about to press something in this part: leave it alone until they are done.
  const writes = (part) => {
    const active = document.activeElement;
    return part.contains(active) && active.closest("form") !== null;
  };

  const opened = (part) => {
    const open = part.querySelectorAll("details[open][data-keep]");
    return new Set([...open].map((details) => details.dataset.keep));
  };

  // Opens what was open; what is left of `open` has gone.
  const reopen = (part, open) => {
    for (const details of part.querySelectorAll("details[data-keep]")) {
      if (open.delete(details.dataset.keep)) details.open = true;
    }
  };

  const follow = () => {
    // Live parts are drawn once for all who see the same; what their forms must carry belongs to the page's session.
    const token = document.querySelector('meta[name="form-token"]')?.content;

    const swap = (part, html) => {
      const open = opened(part);
      const boxes = [...part.querySelectorAll(".scroll[data-keep]")];
      const scrolled = boxes.map((box) => [box.dataset.keep, box.scrollLeft]);
      part.innerHTML = html;
      if (token !== undefined) {
        for (const field of part.querySelectorAll('input[name="csrf"]')) field.value = token;
      }
      for (const box of part.querySelectorAll(".scroll[data-keep]")) {
        const before = scrolled.find(([keep]) => keep === box.dataset.keep);
        if (before !== undefined) box.scrollLeft = before[1];
      }
      reopen(part, open);
    };

    // What came for parts in use. It may be the last change of them for long.
    const later = new Map();
    const source = new EventSource(words.events);
    let heard = performance.now();
    const live = () => {
      heard = performance.now();
      say(words.live, "on");
    };
    source.addEventListener("open", live);
    source.addEventListener("beat", live);
    source.addEventListener("fragments", (event) => {
      live();
      for (const [id, html] of Object.entries(JSON.parse(event.data).fragments)) {
        const part = document.getElementById("live-" + id);
        if (part === null) {
          // The page grew a part that was not there when it was loaded.
          location.reload();
          return;
        }
        if (writes(part)) later.set(part, html);
        else {
          later.delete(part);
          swap(part, html);
        }
      }
    });
    document.addEventListener("focusout", () => {
      // By then the focus is where it goes.
      setTimeout(() => {
        for (const [part, html] of later) {
          if (writes(part)) continue;
          later.delete(part);
          swap(part, html);
        }
      });
    });
    // An output that grows. Its lines come as HTML that the server escaped.
    const KEPT_LINES = 5000;
    source.addEventListener("append", (event) => {
      live();
      const lines = document.getElementById("lines");
      if (lines === null) return;
      document.getElementById("nothing")?.remove();
      lines.insertAdjacentHTML("beforeend", JSON.parse(event.data).html);
      while (lines.childElementCount > KEPT_LINES) lines.firstElementChild.remove();
      if (document.getElementById("follow")?.checked) lines.scrollTop = lines.scrollHeight;
    });
    source.addEventListener("over", (event) => {
      source.close();
      clearInterval(watch);
      say(event.data, "over");
    });
    const lines = document.getElementById("lines");
    if (lines !== null) lines.scrollTop = lines.scrollHeight;
    // A browser gives up when the answer is a refusal: the session has ended, or too many pages are open.
    const gone = () => source.readyState === EventSource.CLOSED;
    source.addEventListener("error", () => say(gone() ? words.gone : words.lost, "off"));
    // Events come at least every five seconds; a longer silence is a lost connection that nobody reported.
    const watch = setInterval(() => {
      if (!gone() && performance.now() - heard > 15000) say(words.silent, "off");
    }, 5000);
  };

  const refresh = () => {
    // Also leaves alone what someone has marked to read or to copy.
    const inUse = (part) => {
      const chosen = getSelection();
      return writes(part) || (chosen !== null && !chosen.isCollapsed && part.contains(chosen.anchorNode));
    };

    // Where the keyboard was: the same link or summary again.
    const focusable = (part) => [...part.querySelectorAll("a, button, summary, [tabindex]")];

    const swap = (part, fresh) => {
      if (part.innerHTML === fresh.innerHTML || inUse(part)) return;
      const open = opened(part);
      reopen(fresh, open);
      // What is being read is no longer in the list: it stays until it is closed.
      if (open.size > 0) return;
      if (part.innerHTML === fresh.innerHTML) return;
      const at = focusable(part).indexOf(document.activeElement);
      const moved = [...part.querySelectorAll(".scroll")].map((s) => s.scrollLeft);
      part.replaceChildren(...fresh.childNodes);
      [...part.querySelectorAll(".scroll")].forEach((s, n) => (s.scrollLeft = moved[n] ?? 0));
      if (at >= 0) focusable(part)[at]?.focus({ preventScroll: true });
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

    const every = Number(words.refresh);
    const round = async () => {
      await ask();
      setTimeout(round, every);
    };
    setTimeout(round, every);
    document.addEventListener("visibilitychange", ask);
  };

  if (words.events === undefined) refresh();
  else follow();
})();
