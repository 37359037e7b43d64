// Light, dark, or as the reader's system has it.

const theme = (() => {
  "use strict";

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const NEXT = { auto: "light", light: "dark", dark: "auto" };

  const chosen = () => state.get().theme;

  /** Return the theme that is seen: "light" or "dark". */
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
