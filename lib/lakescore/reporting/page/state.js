// What the reader chose, kept in the page's address, so that it can be sent to somebody.
//
// { columns, sort, filters, search, different, selected, charts, theme, facts }. Only what differs
// from the first look is written, and what the document does not know is left out when it is read.

const state = (() => {
  "use strict";

  let first = {};
  let chosen = {};
  let listeners = [];
  let written = "";

  const copy = (value) => JSON.parse(JSON.stringify(value));

  /** Return the choices of an address; one that does not read as such has none. */
  function decode(hash) {
    try {
      const found = JSON.parse(decodeURIComponent(hash.replace(/^#/, "")));
      return found !== null && typeof found === "object" && !Array.isArray(found) ? found : {};
    } catch {
      return {};
    }
  }

  function encode(choices, defaults) {
    const differs = Object.entries(choices).filter(
      ([key, value]) => JSON.stringify(value) !== JSON.stringify(defaults[key]),
    );
    return differs.length ? `#${encodeURIComponent(JSON.stringify(Object.fromEntries(differs)))}` : "";
  }

  /** Take the choices of the address over the defaults; `check` leaves out what is unknown. */
  function begin(defaults, check) {
    first = copy(defaults);
    const read = () => {
      const asked = check(decode(location.hash));
      chosen = { ...copy(first), ...copy(asked) };
    };
    read();
    addEventListener("hashchange", () => {
      if (location.hash === written) return;
      read();
      tell();
    });
  }

  function tell(...changed) {
    for (const listener of listeners) listener(chosen, new Set(changed));
  }

  /** Change some choices, write the address, and tell all who listen which ones changed. */
  function change(changes) {
    chosen = { ...chosen, ...copy(changes) };
    written = encode(chosen, first);
    try {
      history.replaceState(null, "", written || location.pathname + location.search);
    } catch {
      location.hash = written;
    }
    tell(...Object.keys(changes));
  }

  function forget() {
    change(first);
  }

  return {
    begin, change, decode, encode, forget,
    get: () => chosen,
    listen: (listener) => listeners.push(listener),
  };
})();
