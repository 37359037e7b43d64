// What the live page adds to a model's page: editors in each version's dialog, and the tools above.

const editing = (() => {
  "use strict";

  const { button, make } = elements;
  const { field, form, lines, outcome, text } = forms;

  const PRODUCTION = new Set(["champion"]);

  const named = (version) => (version ? `version ${version}` : "no version");

  /** Return alias -> version number, of all that the document shows. */
  function aliasesOf(document_) {
    return new Map(document_.versions.flatMap((version) =>
      version.aliases.map((alias) => [alias, version.version])));
  }

  async function versionNow(version) {
    const now = await session.ask("GET", session.path("models", version.name, "document"));
    const found = now.versions.find((each) => each.version === version.version);
    if (!found) throw new Error(`version ${version.version} does not exist any more`);
    return found;
  }

  /** Return what moves a production alias changes, as a question. */
  function questionOf(name, alias, from, to) {
    const effect = to ? `use ${named(to)}` : "end with an error";
    return `${alias} moves from ${named(from)} to ${named(to)}. Jobs that read ${name}@${alias} ${effect} from their next run.`;
  }

  /** Return the form that moves an alias to this version, and those that take moves back. */
  function aliases(version, document_, moved) {
    const there = aliasesOf(document_);
    const said = outcome();
    const known = `aliases-${version.version}`;
    const alias = text({ required: true, list: known, maxlength: 250, pattern: "[\\w\\-]+", title: "letters, digits, _ and -" });
    const reason = text({ maxlength: forms.LONGEST.reason, dir: "auto" });
    const evidence = text({ maxlength: 32, pattern: "[0-9a-f]{32}", title: "a run's id: 32 hexadecimal digits" });
    const standing = make("ul", { class: "plain" });
    const place = (name, ...rest) => session.path("models", version.name, "aliases", name, ...rest);

    function draw() {
      const lines_ = [...there].sort().map(([each, number]) => make("li", { class: "alias" },
        make("span", { class: "badge" }, each), ` is ${named(number)}`,
        number === version.version ? [["Roll back", "rollback"], ["Withdraw", "withdraw"]].map(([label, how]) =>
          button(label, () => take(each, how), { class: "quiet", "aria-label": `${label} ${each}` })) : null));
      standing.replaceChildren(...lines_.length ? lines_ : [make("li", { class: "dim" }, "No alias yet.")]);
    }

    /** Ask before a production alias moves; `to` is null if the ledger decides. */
    const isAgreed = (name, question) => !PRODUCTION.has(name)
      || forms.ask(said.place.parentElement, question, `Move ${name}`, "Cancel");

    /** Move an alias back to where it was, through the ledger. */
    async function undo({ alias: name, from, to }) {
      said.none();
      try {
        const facts = { expected: to ?? 0, reason: "undo" };
        show(await (from === null ? session.ask("POST", place(name, "withdraw"), facts)
          : session.ask("PUT", place(name), { ...facts, version: from, evidence: null })));
      } catch (error) {
        said.bad(error.message);
      }
    }

    function show(move, ...actions) {
      if (move.to === null) there.delete(move.alias);
      else there.set(move.alias, move.to);
      said.good(move.status === "unchanged"
        ? `${move.alias} is ${named(move.to)} already.`
        : `${move.alias} moved from ${named(move.from)} to ${named(move.to)}.`, ...actions);
      moved();
      draw();
    }

    const note = (move) => show(move, ...move.status === "unchanged" ? []
      : [button("Undo", () => undo(move), { class: "link", "aria-label": `Undo the move of ${move.alias}` })]);

    async function take(each, how) {
      said.none();
      const question = how === "withdraw" ? questionOf(version.name, each, there.get(each), null)
        : `${each} moves back from ${named(there.get(each))} to where it was before. Jobs that read `
          + `${version.name}@${each} follow from their next run.`;
      if (!await isAgreed(each, question)) return;
      try {
        note(await session.ask("POST", place(each, how), { expected: there.get(each) ?? 0, reason: reason.value || null }));
        reason.value = "";
      } catch (error) {
        said.bad(error.message);
      }
    }

    const promote = form([
      field("Alias", alias, "for example champion"),
      field("Reason", reason, "for the ledger"),
      field("Evidence", evidence, "id of an MLflow run that justifies it"),
      make("datalist", { id: known },
        [...new Set([...there.keys(), "champion", "challenger"])].map((value) => make("option", { value }))),
    ], `Promote version ${version.version}`, said, async () => {
      const expected = there.get(alias.value) ?? 0;
      if (!await isAgreed(alias.value, questionOf(version.name, alias.value, expected, version.version))) return;
      note(await session.ask("PUT", place(alias.value), {
        version: version.version, expected, reason: reason.value || null, evidence: evidence.value || null,
      }));
      promote.reset();
    }, { class: "promote" });
    draw();
    return make("section", { class: "edits" }, make("h3", {}, "Aliases"), standing, promote, said.place);
  }

  function replaceSection(body, title, editor) {
    const old = [...body.querySelectorAll("section")].find((each) => each.querySelector("h3")?.textContent === title);
    old?.remove();
    body.prepend(editor);
  }

  /** Put the editors of a version before its facts. */
  function edit({ version, dialog, body }, document_) {
    const changed = forms.tellAtClose(dialog, () => notices.reload(`The page shows the current state of ${version.name}.`));
    const place = session.path("models", version.name, "versions", version.version);
    body.prepend(aliases(version, document_, changed));
    body.prepend(forms.description(`${place}/description`, version.description,
      async () => (await versionNow(version)).description, changed));
    replaceSection(body, "Tags", forms.tags(`${place}/tags`, version.tags,
      async () => (await versionNow(version)).tags, changed));
    body.prepend(elements.get(".live", body));
    body.querySelector("input")?.focus();
  }

  /** Offer what can be done with a version: its facts come first, and its editors behind a button. */
  function offer(detail, document_) {
    const { version, dialog, body } = detail;
    const start = button("Edit", () => {
      start.remove();
      edit(detail, document_);
    });
    forms.guard(dialog);
    body.prepend(make("div", { class: "live" }, start, button("Apply this version", () => applying.open(version))));
  }

  function row(move) {
    return [
      move.number === null ? notation.NOTHING : String(move.number), elements.time(move.when), move.alias,
      `${move.from ?? "none"} → ${move.to ?? "none"}`, move.kind, move.by ?? notation.NOTHING, move.reason ?? "",
      move.evidence ?? "", move.done ? "" : "not finished",
    ].map((each) => make("span", { dir: "auto" }, each));
  }

  async function showHistory(name) {
    const moves = await session.ask("GET", session.path("models", name, "history"));
    const heads = ["number", "when", "alias", "move", "kind", "by", "reason", "evidence", ""];
    forms.dialog(`Who moved the aliases of ${name}`, moves.length
      ? elements.table(heads, moves.reverse().map(row), { label: "history of aliases" })
      : make("p", {}, "No alias has moved yet."));
  }

  function choice(found) {
    const heads = ["", "model", "run", "experiment", "logged", "registered as"];
    const line = (each) => {
      const run = each.run_name ?? each.run_id;
      const pick = make("input", {
        type: "radio", name: "logged", required: true, value: each.logged_model_id,
        "aria-label": `${each.name} of run ${run ?? "none"}`,
      });
      const texts = [
        each.name, run ?? notation.NOTHING, each.experiment, notation.time(each.created_at),
        each.registered.join(", ") || notation.NOTHING,
      ];
      return make("tr", {}, make("td", {}, pick),
        texts.map((value) => make("td", { dir: "auto" }, elements.short(value, 120))));
    };
    return elements.table(heads, found.map(line), { label: "logged models" });
  }

  async function register(name) {
    const found = await session.ask("GET", "/api/logged-models?limit=100");
    if (found.length === 0) {
      forms.dialog(`Register a version of ${name}`, make("p", {}, "No run has logged a model yet."));
      return;
    }
    const said = outcome();
    const tags = lines({ dir: "auto" });
    const description = lines({ maxlength: forms.LONGEST.description, dir: "auto" });
    const node = form([
      choice(found), field("Description", description), field("Tags", tags, "one per line, as key=value"),
    ], "Register", said, async () => {
      const chosen = node.querySelector("input[type=radio]:checked").value;
      const made = await session.ask("POST", session.path("models", name, "versions"), {
        logged_model_id: chosen, description: description.value || null, tags: forms.pairs(tags.value),
      });
      notices.reload(`Registered as version ${made.version} of ${name}.`);
    });
    forms.dialog(`Register a version of ${name}`, [node, said.place]);
  }

  /** Return a button that says in the page's notice what went wrong. */
  function tool(label, act) {
    return button(label, () => act().catch((error) => notices.say(error.message)));
  }

  function begin(document_) {
    const name = decodeURIComponent(location.pathname.split("/")[2]);
    elements.get(".brand").prepend(make("a", { href: "/" }, "Models"), " / ");
    elements.get("#verdict").append(make("div", { class: "live" },
      tool("Register a version", () => register(name)), tool("History of aliases", () => showHistory(name)),
      document_.versions.length
        ? make("span", { class: "dim" }, "Open a version to edit its tags, description and aliases.") : null));
    notices.begin();
    addEventListener("lakescore:details", ({ detail }) => offer(detail, document_));
    document.documentElement.dataset.editable = "yes";
  }

  addEventListener("lakescore:started", ({ detail }) => begin(detail.document));
  return { begin };
})();
