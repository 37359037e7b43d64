// Functions that build DOM. Data reaches the page only as text nodes and attributes, never as markup.

const elements = (() => {
  "use strict";

  const LONGEST = 80;

  /** Return an element; functions in `attributes` become listeners. */
  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") node.addEventListener(name, value);
      else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) {
        node.setAttribute(name, String(value));
      }
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return node;
  }

  /**
   * Return the element of the page, or of `place`, that fits a selector.
   *
   * @param {string} selector
   * @param {ParentNode} place
   */
  function get(selector, place = document) {
    const found = place.querySelector(selector);
    if (!(found instanceof HTMLElement)) throw new Error(`the page has no ${selector}`);
    return found;
  }

  /** Return a text of at most `most` characters, without cutting a character. */
  function short(text, most = LONGEST) {
    const characters = [...String(text)];
    return characters.length > most ? `${characters.slice(0, most - 1).join("")}…` : String(text);
  }

  function button(label, action, attributes = {}) {
    return make("button", { type: "button", click: action, ...attributes }, label);
  }

  /** Return a labelled select. `options` are `{ value, label, group? }`; a group is adjacent. */
  function select(label, options, chosen, change, attributes = {}) {
    const node = make("select", {
      "aria-label": label, change: () => change(node.value), ...attributes,
    });
    const groups = new Map();
    for (const { value, label: text, group } of options) {
      const option = make("option", { value, selected: value === chosen }, short(text, 60));
      if (!group) {
        node.append(option);
        continue;
      }
      if (!groups.has(group)) {
        groups.set(group, make("optgroup", { label: group }));
        node.append(groups.get(group));
      }
      groups.get(group).append(option);
    }
    return make("label", { class: "field" }, make("span", {}, label), node);
  }

  function checkbox(label, checked, change, attributes = {}) {
    const box = make("input", {
      type: "checkbox", checked, change: () => change(box.checked), ...attributes,
    });
    return make("label", { class: "check" }, box, make("span", {}, label));
  }

  /** Return a time in UTC; the reader's own clock shows it in its tip. */
  function time(value) {
    const local = notation.localTime(value);
    return make("time", { datetime: local ? value : null, title: local || null }, notation.time(value));
  }

  /** Return a table in a box that scrolls. Cells are texts or nodes. */
  function table(heads, rows, attributes = {}) {
    const cell = (tag, extra) => (content) => make(tag, extra, content);
    /** @param {(string | Node)[]} cells */
    const line = ([first, ...rest], attributes_ = {}) =>
      make("tr", attributes_, make("th", { scope: "row" }, first), rest.map(cell("td", {})));
    return make(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": attributes.label ?? "table" },
      make(
        "table",
        { class: attributes.class ?? "" },
        make("thead", {}, make("tr", {}, heads.map(cell("th", { scope: "col" })))),
        make("tbody", {}, rows.map((row) => (Array.isArray(row) ? line(row) : row))),
      ),
    );
  }

  /** Return a function that runs `action` once, `milliseconds` after its last call. */
  function settled(action, milliseconds) {
    let timer;
    return (...values_) => {
      clearTimeout(timer);
      timer = setTimeout(() => action(...values_), milliseconds);
    };
  }

  return { button, checkbox, get, make, select, settled, short, table, time };
})();
