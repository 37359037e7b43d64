// Apply a version to a table: its features beside the table's columns, and texts to copy.
//
// The server says what fits. Columns are chosen by their place in the table, because an input of
// text or a name in an attribute could lose characters of a name.

const applying = (() => {
  "use strict";

  const { button, make } = elements;
  const { field, form, outcome, text } = forms;
  const MOST_KEYS = 20;
  const MOST_OPTIONS = 20_000;
  const LEAVE_OUT = "none";
  /** @type {[string, string]} */
  const OPEN = ["", "choose a column"];
  /** @type {[string, string]} */
  const LEFT_OUT = [LEAVE_OUT, "leave out"];

  /**
   * Return a select of columns: `fixed` values with their labels, then the columns at `places`.
   *
   * If `later` is true, it gets all its options when the reader comes to it.
   */
  function picker(columns, places, { fixed = [OPEN], later = false, attributes = {} }) {
    const node = make("select", attributes);
    const labels = new Map(fixed);
    const option = (value) => {
      const label = labels.get(value) ?? `${columns[value].name} (${columns[value].type})`;
      return make("option", { value, dir: "auto" }, elements.short(label, 120));
    };
    const fill = () => {
      if (node.options.length >= fixed.length + places.length) return;
      const { value } = node;
      node.replaceChildren(...[...labels.keys(), ...places.map(String)].map(option));
      node.value = value;
    };
    node.append(...[...labels.keys()].map(option));
    if (later) {
      for (const kind of ["focus", "pointerdown"]) node.addEventListener(kind, fill);
    } else fill();

    const chosen = () => (labels.has(node.value) ? null : columns[node.value]);
    const put = (value) => {
      if (![...node.options].some((present) => present.value === value)) node.append(option(value));
      node.value = value;
    };
    return { node, chosen, put };
  }

  /** Return one line of the mapping: a feature, the select of its column, and why. */
  function pair(id, name, asks, pick, changed) {
    const why = make("p", { class: "why", id: `${id}-why`, dir: "auto" });
    pick.node.addEventListener("change", () => {
      why.textContent = "";
      changed();
    });
    const node = make("li", { class: "pair" },
      make("label", { for: id, dir: "auto" }, elements.short(name, 200), " ",
        make("small", {}, elements.short(asks))),
      pick.node, why);
    function say(reason, isOpen) {
      why.textContent = reason;
      why.classList.toggle("bad", isOpen);
    }
    return { node, say };
  }

  /** Return the lines of a signature with names, and the reader's choices. */
  function named(first, select, changed) {
    const chosen = new Map();
    const places = new Map(first.input.columns.map((column, place) => [column.name, String(place)]));
    const rows = first.features.map((feature, number) => {
      const fixed = feature.required ? [OPEN] : [OPEN, LEFT_OUT];
      const pick = select(`feature-${number}`, first.fits[first.fitting[number]], fixed);
      const line = pair(`feature-${number}`, feature.feature, feature.asks, pick, () => {
        const { value } = pick.node;
        if (value === "") chosen.delete(feature.feature);
        else chosen.set(feature.feature, value === LEAVE_OUT ? "" : pick.chosen().name);
        changed();
      });
      const update = (match) => {
        if (!chosen.has(match.feature)) {
          pick.put(match.status === "left out" ? LEAVE_OUT : places.get(match.column) ?? "");
        }
        line.say(match.reason, match.status === "open");
      };
      return { node: line.node, update };
    });
    return {
      nodes: rows.map((row) => row.node),
      choices: () => ({ columns: Object.fromEntries(chosen) }),
      update: (features) => features.forEach((match, number) => rows[number].update(match)),
    };
  }

  /** Return the lines of a signature without names: a column for each place, or one for all. */
  function ordered(first, select, changed) {
    const picks = first.fitting.map((fit, number) => select(`feature-${number}`, first.fits[fit]));
    const lines = picks.map((pick, number) => {
      const { feature, asks } = first.features[number] ?? { feature: "all, as one column of arrays", asks: "" };
      return pair(`feature-${number}`, feature, asks, pick, changed);
    });
    const places = picks.slice(0, first.features.length);
    const block = picks[first.features.length];
    function features() {
      const names = places.map((pick) => pick.chosen()?.name);
      if (block?.chosen()) return [block.chosen().name, ...names.filter((name) => name !== undefined)];
      return names.includes(undefined) ? [] : names;
    }
    return {
      nodes: lines.map((line) => line.node),
      choices: () => ({ features: features() }),
      update: (matches) => {
        for (const [number, line] of lines.entries()) {
          const match = matches[number];
          const isOpen = match?.status === "open" && !picks[number].chosen();
          line.say(isOpen ? match.reason : "", isOpen);
        }
      },
    };
  }

  /** Return selects of the columns that identify a row: always one more, until there are enough. */
  function keys(select, everything, changed) {
    const picks = [];
    const node = make("ul", { class: "plain" });
    function add() {
      const number = picks.length + 1;
      const id = `key-${number}`;
      const pick = select(id, everything);
      pick.node.addEventListener("change", () => {
        if (picks.every((key) => key.chosen()) && picks.length < MOST_KEYS) add();
        changed();
      });
      picks.push(pick);
      node.append(make("li", { class: "pair" },
        make("label", { for: id }, `Key column ${number}`, number > 1 ? make("small", {}, " if one is not enough") : null),
        pick.node,
        make("p", { class: "why", id: `${id}-why` })));
    }
    add();
    const names = () => picks.map((pick) => pick.chosen()?.name).filter((name) => name !== undefined);
    return { node, names };
  }

  /** Return the two schemas side by side; `changed` is told of each choice. */
  function schemas(first, changed) {
    const { columns } = first.input;
    const everything = columns.map((_, place) => place);
    const size = first.fitting.reduce((sum, fit) => sum + first.fits[fit].length, columns.length);
    const select = (id, places, fixed = [OPEN]) => picker(columns, places, {
      fixed, later: size > MOST_OPTIONS, attributes: { id, "aria-describedby": `${id}-why` },
    });
    const features = (first.ordered ? ordered : named)(first, select, changed);
    const key = keys(select, everything, changed);
    const parts = [
      make("div", { class: "pair heads", "aria-hidden": "true" }, make("span", {}, "The version's features"),
        make("span", {}, "The table's columns")),
      make("ul", { class: "plain mapping", "aria-label": "features and columns" }, features.nodes),
      make("h3", {}, "Key"),
      make("p", { class: "dim" }, "Which columns identify a row? The page does not read rows; the job checks it."),
      key.node,
    ];
    return {
      parts,
      choices: () => ({ ...features.choices(), id_columns: key.names() }),
      update: features.update,
      of: JSON.stringify([columns, first.fits, first.fitting]),
    };
  }

  /** Return a text with a button that copies exactly this text. */
  function copied(title, what) {
    const said = outcome();
    const copy = button("Copy", async () => {
      try {
        await navigator.clipboard.writeText(what);
        said.good(`${title} copied.`);
      } catch {
        said.bad("The browser did not allow it; select the text.");
      }
    }, { class: "copy", "aria-label": `Copy ${title}` });
    return make("section", {}, make("h3", {}, title),
      make("div", { class: "command" },
        make("pre", { tabindex: "0", role: "region", "aria-label": title }, make("code", {}, what)), copy),
      said.place);
  }

  function texts(proposal) {
    const { table, version } = proposal.input;
    return [
      make("p", { dir: "auto" }, `The job reads ${table}, now at version ${version}, and writes ${proposal.writes}.`),
      make("p", { dir: "auto" }, `Columns of predictions: ${elements.short(proposal.predictions.join(", "), 400)}.`),
      copied("Job's file", proposal.job_file),
      copied("Python", proposal.python),
      proposal.sql === null
        ? make("section", {}, make("h3", {}, "SQL"), make("p", { class: "dim", dir: "auto" }, `None: ${proposal.sql_reason}.`))
        : copied("SQL", proposal.sql),
    ];
  }

  /** Return in one line what the reader still has to choose. */
  function missing(proposal) {
    const open = proposal.features.filter((match) => match.status === "open").length;
    const parts = [];
    if (open) parts.push(open === 1 ? "a column for one feature" : `columns for ${open} features`);
    if (proposal.id_columns.length === 0) parts.push("the key");
    return `Choose ${parts.join(" and ")}.`;
  }

  function open(version) {
    const to = session.path("models", version.name, "versions", version.version, "proposal");
    const said = outcome();
    const saidBelow = outcome();
    const input = text({ required: true, maxlength: 1000, dir: "auto" });
    const output = text({ required: true, maxlength: 1000, dir: "auto" });
    const below = make("div", { class: "schemas" });
    const result = make("div", { class: "texts" });
    let looks = 0;

    function forget() {
      result.replaceChildren();
      saidBelow.none();
    }

    function forgetTable() {
      forget();
      below.replaceChildren();
      looks += 1;
    }

    /** Ask with what the form has; the answer is of use only if the form still has it. */
    async function ask(choices) {
      const has = () => JSON.stringify([looks, input.value, output.value, choices()]);
      const before = has();
      const proposal = await session.ask("POST", to, {
        input: input.value, output: output.value, ...choices(),
      });
      if (has() !== before) throw new Error("the form changed meanwhile; send it again");
      return proposal;
    }

    async function write(shown) {
      forget();
      const proposal = await ask(shown.choices);
      if (JSON.stringify([proposal.input.columns, proposal.fits, proposal.fitting]) !== shown.of) {
        forgetTable();
        said.bad("The table or the version has other columns now; look at the table again.");
        return;
      }
      shown.update(proposal.features);
      if (!proposal.complete) {
        saidBelow.bad(missing(proposal));
        return;
      }
      result.replaceChildren(...texts(proposal));
      saidBelow.good("The texts are below. Nothing was run.");
    }

    const look = form([
      field("Input table", input, "folder of the table to score, such as tables/departures"),
      field("Output table", output, "folder for the predictions, such as tables/predictions"),
    ], "Look at the table", said, async () => {
      forgetTable();
      const first = await ask(() => ({}));
      const shown = schemas(first, forget);
      shown.update(first.features);
      const node = form(shown.parts, "Write the texts", saidBelow, () => write(shown), { class: "map" });
      below.replaceChildren(make("h3", { tabindex: "-1" }, "Columns"), node);
      said.good(`${first.input.columns.length} columns at version ${first.input.version}. ${missing(first)}`);
    }, { class: "look" });
    input.addEventListener("input", () => {
      forgetTable();
      said.none();
    });
    output.addEventListener("input", forget);
    const { node } = forms.dialog(`Apply version ${version.version} of ${version.name}`, [
      make("p", { class: "dim" }, "The page reads the columns of a table and writes a job's file to copy. It runs nothing."),
      look, said.place, below, saidBelow.place, result,
    ], false);
    node.classList.add("wide");
    input.focus();
  }

  return { open };
})();
