// On narrow screens the parts below the versions are folded, so that the answer and the versions fit.

const folding = (() => {
  "use strict";

  const { make } = elements;
  const OPEN = new Set(["verdict", "versions"]);
  const narrow = matchMedia("(max-width: 44rem)");

  /** @returns {HTMLElement[]} */
  const parts = () => [...document.querySelectorAll("main > section")].filter(
    /** @returns {part is HTMLElement} */ (part) => part instanceof HTMLElement && !OPEN.has(part.id),
  );

  function set(part, isOpen) {
    part.toggleAttribute("data-folded", !isOpen);
    part.querySelector("h2 > .fold")?.setAttribute("aria-expanded", String(isOpen));
  }

  function addButton(part) {
    const head = part.querySelector("h2");
    if (!head || head.querySelector(".fold")) return;
    head.replaceChildren(make("button", {
      type: "button", class: "fold", click: () => set(part, part.hasAttribute("data-folded")),
    }, ...head.childNodes));
    set(part, false);
  }

  function removeButton(part) {
    const button = part.querySelector("h2 > .fold");
    button?.replaceWith(...button.childNodes);
    part.removeAttribute("data-folded");
  }

  const follow = () => parts().forEach(narrow.matches ? addButton : removeButton);

  function begin() {
    follow();
    narrow.addEventListener("change", follow);
  }

  /** Unfold a part, because the reader goes there. */
  function open(part) {
    if (part.hasAttribute("data-folded")) set(part, true);
  }

  return { begin, open, isNarrow: () => narrow.matches };
})();
