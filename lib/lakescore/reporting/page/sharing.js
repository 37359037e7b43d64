// What a reader does to show the page to others: copy the address or a summary, or print.

const sharing = (() => {
  "use strict";

  const { button, get, make } = elements;
  const SHOWN_FOR = 1500;

  /** Return a button that copies a text, and says so. */
  function copyButton(label, text, attributes = {}) {
    const copy = button(label, async () => {
      try {
        await navigator.clipboard.writeText(text());
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "The browser does not let the page copy";
      }
      setTimeout(() => { copy.textContent = label; }, SHOWN_FOR);
    }, attributes);
    return copy;
  }

  /** Open the notes while the page is printed, because paper cannot unfold them. */
  function followPrint() {
    /** @type {HTMLDetailsElement[]} */
    let opened = [];
    addEventListener("beforeprint", () => {
      opened = [...document.querySelectorAll("details")].filter((note) => note.matches(".note:not([open])"));
      for (const note of opened) note.open = true;
    });
    addEventListener("afterprint", () => {
      for (const note of opened) note.open = false;
    });
  }

  function begin() {
    const summary = document.getElementById("summary");
    get("#verdict").append(make("div", { class: "share" },
      summary ? copyButton("Copy as Markdown", () => JSON.parse(summary.textContent ?? "")) : null,
      copyButton("Copy link", () => location.href),
      button("Save as PDF", () => print())));
    followPrint();
  }

  return { begin, copyButton };
})();
