// The reader's choices, kept in the page's address, so that the reader can send them to somebody.
//
// { columns, sort, filters, search, different, selected, charts, theme, facts }. The address holds
// only choices that differ from the defaults. Choices that the document does not know are ignored.

const state = (() => {
  "use strict";

  let first = {};
  let chosen = {};
  const listeners = [];
  let written = "";

  const copy = (value) => JSON.parse(JSON.stringify(value));

  /** Return the choices of an address; none if they cannot be read. */
  function decode(hash) {
    try {
      const choices = JSON.parse(decodeURIComponent(hash.replace(/^#/, "")));
      return choices !== null && typeof choices === "object" && !Array.isArray(choices) ? choices : {};
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

  /** Start with the defaults and the choices of the address; `check` leaves out unknown ones. */
  function begin(defaults, check) {
    first = copy(defaults);
    const read = () => {
      const choices = check(decode(location.hash));
      chosen = { ...copy(first), ...copy(choices) };
    };
    read();
    addEventListener("hashchange", () => {
      if (location.hash === written) return;
      read();
      notify();
    });
  }

  function notify(...changed) {
    for (const listener of listeners) listener(chosen, new Set(changed));
  }

  /** Change some choices, write the address, and tell all listeners which choices changed. */
  function change(changes) {
    chosen = { ...chosen, ...copy(changes) };
    written = encode(chosen, first);
    try {
      history.replaceState(null, "", written || location.pathname + location.search);
    } catch {
      location.hash = written;
    }
    notify(...Object.keys(changes));
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
