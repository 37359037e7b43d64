// Asks for the page of the model that the address names, and becomes it.

const door = (() => {
  "use strict";

  async function open() {
    const name = decodeURIComponent(location.pathname.split("/")[2]);
    try {
      const page = await session.ask("GET", session.path("models", name, "page"));
      document.open();
      document.write(page); // what a browser would show, could it send the token
      document.close();
    } catch (error) {
      const said = /** @type {HTMLElement} */ (document.getElementById("said"));
      said.textContent = error.message;
    }
  }

  return { open };
})();
