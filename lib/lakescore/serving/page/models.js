// The list of registered models: made, edited, and each a way to its page.

const models = (() => {
  "use strict";

  const { button, make } = elements;
  const { field, form, lines, outcome, text } = forms;

  const place = (name) => `/models/${encodeURIComponent(name)}`;
  const cell = (value) => make("span", { dir: "auto" }, elements.short(value, 200));
  const pairs = (found, glue) => Object.entries(found).map(([key, value]) => `${key}${glue}${value}`).join(", ");

  async function now(name) {
    const found = (await session.ask("GET", "/api/models")).find((each) => each.name === name);
    if (!found) throw new Error(`${name} does not exist any more`);
    return found;
  }

  function edit(model) {
    const { node, body } = forms.dialog(model.name, []);
    const changed = forms.tellAtClose(node, () => notices.reload(`The page shows the current state of ${model.name}.`));
    const to = session.path("models", model.name);
    body.append(
      forms.tags(`${to}/tags`, model.tags, async () => (await now(model.name)).tags, changed),
      forms.description(`${to}/description`, model.description,
        async () => (await now(model.name)).description, changed),
    );
  }

  function create() {
    const said = outcome();
    const name = text({ required: true, maxlength: 250, dir: "auto" });
    const description = lines({ maxlength: forms.LONGEST.description, dir: "auto" });
    const tags = lines({ dir: "auto" });
    const node = form([
      field("Name", name), field("Description", description), field("Tags", tags, "one per line, as key=value"),
    ], "Create", said, async () => {
      const made = await session.ask("POST", "/api/models", {
        name: name.value, description: description.value || null, tags: forms.pairs(tags.value),
      });
      notices.reload(`Created ${made.name}.`);
    });
    forms.dialog("Create a registered model", [node, said.place]);
  }

  function row(model) {
    return [
      make("a", { href: place(model.name), dir: "auto" }, elements.short(model.name, 120)),
      String(model.versions), cell(pairs(model.aliases, " → ") || "–"), cell(pairs(model.tags, " = ") || "–"),
      cell(model.description ?? "–"), elements.time(model.changed_at),
      button("Edit", () => edit(model), { class: "quiet", "aria-label": `Edit ${model.name}` }),
    ];
  }

  async function begin() {
    const said = elements.get("#said");
    elements.get("#verdict").append(make("div", { class: "live" }, button("Create a model", create)));
    notices.begin();
    try {
      const found = await session.ask("GET", "/api/models");
      const heads = ["name", "versions", "aliases", "tags", "description", "changed", ""];
      said.textContent = found.length === 1 ? "One registered model." : `${found.length} registered models.`;
      if (found.length) {
        elements.get("main").append(
          make("section", {}, elements.table(heads, found.map(row), { label: "registered models" })),
        );
      }
    } catch (error) {
      said.textContent = error.message;
    }
    document.documentElement.dataset.started = "yes";
  }

  return { begin };
})();
