// The theme: light, dark, or the theme of the reader's system.

const theme = (() => {
  "use strict";

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const NEXT = { auto: "light", light: "dark", dark: "auto" };

  const chosen = () => state.get().theme;

  /** Return the visible theme: "light" or "dark". */
  function shown() {
    return chosen() === "auto" ? (dark.matches ? "dark" : "light") : chosen();
  }

  function apply(button) {
    document.documentElement.dataset.theme = shown();
    button.textContent = { auto: "Theme: auto", light: "Theme: light", dark: "Theme: dark" }[chosen()];
  }

  function begin(button) {
    button.hidden = false;
    button.addEventListener("click", () => state.change({ theme: NEXT[chosen()] }));
    dark.addEventListener("change", () => state.change({ theme: chosen() }));
    state.listen(() => apply(button));
    apply(button);
  }

  return { begin, shown };
})();
