// Forms of this page: fields, dialogs, and the editors of tags and descriptions.

const forms = (() => {
  "use strict";

  const { button, make } = elements;
  const LONGEST = { key: 250, value: 5000, description: 5000, reason: 2000 };

  function field(label, input, hint) {
    return make("label", { class: "entry" }, make("span", {}, label), input,
      hint ? make("small", {}, hint) : null);
  }

  const text = (attributes = {}) => make("input", { type: "text", autocomplete: "off", ...attributes });
  const lines = (attributes = {}) => make("textarea", { rows: 3, ...attributes });

  /** Return where a form says how it went: told at once when it changes, with what takes it back. */
  function outcome() {
    const place = make("p", { class: "outcome", role: "status" });
    const put = (kind) => (said, ...actions) => {
      place.className = `outcome ${kind}`;
      place.replaceChildren(said, ...actions.flatMap((action) => [" ", action]));
    };
    return { place, good: put("good"), bad: put("bad"), none: () => put("")("") };
  }

  /**
   * Ask a question in `place`, with a button that says what happens; resolves to the answer. The
   * focus is on the answer that changes nothing.
   *
   * @returns {Promise<boolean>}
   */
  function ask(place, question, yes, no) {
    return new Promise((answer) => {
      const before = document.activeElement;
      const node = make("div", { class: "question", role: "alertdialog", "aria-label": question });
      const end = (is) => () => {
        node.remove();
        if (before instanceof HTMLElement && before.isConnected) before.focus();
        answer(is);
      };
      const refuse = button(no, end(false));
      node.append(make("p", {}, question), make("div", { class: "row" }, refuse, button(yes, end(true), { class: "danger" })));
      place.append(node);
      node.scrollIntoView({ block: "nearest" });
      refuse.focus();
    });
  }

  /** Return the names of the fields of a dialog that hold what is not saved. */
  function unsaved(node) {
    return [...node.querySelectorAll("input, textarea")]
      .filter((box) => (box instanceof HTMLTextAreaElement || (box instanceof HTMLInputElement && box.type === "text"))
        && box.value !== box.defaultValue)
      .map((box) => box.getAttribute("aria-label") ?? box.closest("label")?.querySelector("span")?.textContent ?? "a field");
  }

  /** Keep a dialog open while it holds what is not saved, unless the reader says so; then ask once. */
  function guard(node) {
    const close = async () => {
      const names = unsaved(node);
      if (names.length === 0) {
        node.close();
      } else if (!node.querySelector(".question.unsaved")) {
        const question = `Not saved: ${elements.short(names.join(", "), 120)}.`;
        const answer = ask(node.querySelector("header"), question, "Discard", "Keep editing");
        node.querySelector("header > .question").classList.add("unsaved");
        if (await answer) node.close();
      }
    };
    const take = (event) => {
      event.preventDefault();
      event.stopImmediatePropagation();
      close();
    };
    node.addEventListener("keydown", (event) => event.key === "Escape" && take(event), true);
    node.addEventListener("cancel", take);
    node.addEventListener("click", (event) => {
      const isClose = event.target instanceof HTMLElement && event.target.matches("header > button");
      if (event.target === node || isClose) take(event);
    }, true);
  }

  /** Return a form that acts when it is sent, once at a time, and says in place what went wrong. */
  function form(parts, label, said, act, attributes = {}) {
    const { isSecond, ...others } = attributes;
    const send = make("button", { type: "submit", class: isSecond ? "" : "primary" }, label);
    const node = make("form", {
      ...others,
      submit: async (event) => {
        event.preventDefault();
        if (send.getAttribute("aria-disabled") === "true") return;
        send.setAttribute("aria-disabled", "true");
        said.none();
        try {
          await act();
        } catch (error) {
          said.bad(error.message);
        } finally {
          send.removeAttribute("aria-disabled");
        }
      },
    }, parts, make("div", { class: "sends" }, send));
    return node;
  }

  /** Open a dialog with its parts; returns it, and the body that holds them. `saves`: whether it saves its fields. */
  function dialog(title, parts, saves = true) {
    const id = `dialog-${document.querySelectorAll("dialog").length + 1}`;
    const node = make("dialog", { class: "details", "aria-labelledby": id },
      make("header", {}, make("h2", { id, dir: "auto" }, elements.short(title, 120)),
        button("Close", () => node.close())),
      make("div", { class: "body" }, parts));
    node.addEventListener("close", () => node.remove());
    document.body.append(node);
    if (saves) guard(node);
    node.showModal();
    return { node, body: node.lastElementChild };
  }

  /** Return what notes a change: `act` follows when the dialog closes, or at once if it has. */
  function tellAtClose(node, act) {
    let changes = false;
    node.addEventListener("close", () => {
      if (changes) act();
    });
    return () => {
      changes = true;
      if (!node.open) act();
    };
  }

  /** Return `key=value` lines as an object; a line without `=` is thrown. */
  function pairs(written) {
    const found = {};
    for (const line of written.split("\n").filter((each) => each.trim())) {
      const [key, ...rest] = line.split("=");
      if (rest.length === 0) throw new Error(`${elements.short(line)} is not a tag; write key=value`);
      Object.defineProperty(found, key.trim(), {
        value: rest.join("=").trim(), enumerable: true, configurable: true,
      });
    }
    return found;
  }

  function tagRow(key, value, save) {
    const input = text({ value, maxlength: LONGEST.value, "aria-label": `value of ${key}`, dir: "auto" });
    const keep = make("button", { type: "submit", hidden: true, "aria-label": `Save ${key}` }, "Save");
    input.addEventListener("input", () => { keep.hidden = input.value === value; });
    return make("form", {
      class: "tag",
      submit: (event) => {
        event.preventDefault();
        if (input.value !== value) save(key, input.value, value);
      },
    }, make("span", { class: "key", dir: "auto", title: key }, key), input, keep,
    button("Remove", () => save(key, null, value), { class: "quiet", "aria-label": `Remove ${key}` }));
  }

  /** Give the focus, which went with the row that was drawn anew, to the same tag or to the next. */
  function refocus(rows, sorted, each) {
    const place = sorted.findIndex(([key]) => key >= each);
    const row = rows.children[place] ?? rows.lastElementChild;
    return row?.querySelector("input");
  }

  /**
   * Return an editor of tags. Each change is one request, with what the reader saw; where another one
   * was faster, the page says so and shows what is there now.
   *
   * `to` is the API's path, `now` asks what is there, `changed` is told of each change.
   */
  function tags(to, first, now, changed) {
    let there = first;
    const said = outcome();
    const rows = make("div", { class: "tags" });
    const key = text({ maxlength: LONGEST.key, required: true, dir: "auto" });
    const value = text({ maxlength: LONGEST.value, dir: "auto" });

    function draw(last) {
      const sorted = Object.entries(there).sort(([a], [b]) => (a < b ? -1 : 1));
      const focused = rows.contains(document.activeElement);
      rows.replaceChildren(...sorted.map(([each, its]) => tagRow(each, its, save)));
      if (sorted.length === 0) rows.append(make("p", { class: "dim" }, "No tags yet."));
      if (focused) (refocus(rows, sorted, last) ?? key).focus();
    }

    async function save(each, to_, expected) {
      said.none();
      try {
        there = (await session.ask("PATCH", to, { key: each, value: to_, expected })).tags;
        said.good(to_ === null ? `Tag ${each} removed.` : `Tag ${each} saved.`);
        changed(there);
      } catch (error) {
        said.bad(error.message);
        if (error.status !== 409 && error.status !== 404) return false;
        there = await now();
        changed(there);
      }
      draw(each);
      return true;
    }

    const add = form([field("New tag", key), field("Value", value)], "Add tag", said, async () => {
      const name = key.value.trim();
      if (Object.hasOwn(there, name)) throw new Error(`the tag ${name} exists already; change its value above`);
      if (!await save(name, value.value, null)) return;
      key.value = "";
      value.value = "";
      key.focus();
    }, { class: "add", isSecond: true });
    draw();
    return make("section", { class: "edits" }, make("h3", {}, "Tags"), rows, add, said.place);
  }

  /** Return an editor of a description; as `tags`. */
  function description(to, first, now, changed) {
    let there = first ?? "";
    const said = outcome();
    const box = lines({ maxlength: LONGEST.description, "aria-label": "description", dir: "auto" });
    box.defaultValue = there;
    const edit = form([box], "Save description", said, async () => {
      try {
        const facts = { description: box.value, expected: there };
        there = (await session.ask("PUT", to, facts)).description ?? "";
        box.defaultValue = there;
        said.good("Description saved.");
      } catch (error) {
        if (error.status === 409) there = (await now()) ?? "";
        throw error;
      } finally {
        changed(there);
      }
    }, { isSecond: true });
    return make("section", { class: "edits" }, make("h3", {}, "Description"), edit, said.place);
  }

  return { LONGEST, ask, description, dialog, field, form, guard, lines, outcome, pairs, tags, tellAtClose, text };
})();
