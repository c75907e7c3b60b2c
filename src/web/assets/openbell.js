// Swaps in the parts of the page that changed. The page is complete without it.
"use strict";
(() => {
  const link = document.getElementById("link");
  const say = (text, state) => {
    if (link) {
      link.textContent = text;
      link.className = "link " + state;
    }
  };

  // Someone is filling in or about to press something in this part: leave it alone until they are done.
  const inUse = (part) => {
    const active = document.activeElement;
    return part.contains(active) && active.closest("form") !== null;
  };

  // Live parts are drawn once for all who see the same; what their forms must carry belongs to this page's session.
  const token = document.querySelector('meta[name="form-token"]')?.content;

  const swap = (part, html) => {
    const open = new Set([...part.querySelectorAll("details[open][data-keep]")].map((d) => d.dataset.keep));
    const scrolled = [...part.querySelectorAll(".scroll[data-keep]")].map((box) => [box.dataset.keep, box.scrollLeft]);
    part.innerHTML = html;
    if (token !== undefined) for (const field of part.querySelectorAll('input[name="csrf"]')) field.value = token;
    for (const box of part.querySelectorAll(".scroll[data-keep]")) {
      const before = scrolled.find(([keep]) => keep === box.dataset.keep);
      if (before !== undefined) box.scrollLeft = before[1];
    }
    for (const details of part.querySelectorAll("details[data-keep]")) {
      if (open.has(details.dataset.keep)) details.open = true;
    }
  };

  // What came for parts in use. It may be the last change of them for long.
  const later = new Map();
  // What this script says, in the reader's language.
  const words = document.currentScript.dataset;
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
      if (inUse(part)) later.set(part, html);
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
        if (inUse(part)) continue;
        later.delete(part);
        swap(part, html);
      }
    });
  });
  // control: an output that grows. Its lines come as HTML that the server escaped.
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
})();
