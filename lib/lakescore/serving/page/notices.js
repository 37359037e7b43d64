// What is told to the reader, by sight and by a screen reader, here or after the page came anew.

const notices = (() => {
  "use strict";

  const { make } = elements;
  const KEPT = "lakescore.notice";
  const place = make("p", { class: "notice", role: "status", hidden: true });

  function say(text) {
    place.hidden = false;
    place.textContent = text;
  }

  /** Fetch the page anew, then say `text` and come back to where the reader was. */
  function reload(text) {
    sessionStorage.setItem(KEPT, JSON.stringify({ text, top: scrollY }));
    location.reload();
  }

  function begin() {
    document.body.append(place);
    const kept = sessionStorage.getItem(KEPT);
    if (kept === null) return;
    sessionStorage.removeItem(KEPT);
    const { text, top } = JSON.parse(kept);
    scrollTo(0, top);
    if (text) setTimeout(() => say(text), 100); // a region must be there before its text is told
  }

  return { begin, reload, say };
})();
