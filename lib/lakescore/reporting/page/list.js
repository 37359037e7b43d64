// The version list: the reader chooses columns, sort order, filters and search, and picks versions
// for the comparison. DataTables sorts and draws the list. The state decides its content.

const list = (() => {
  "use strict";

  const { button, checkbox, make, select } = elements;
  const MANY = 100;
  const MANY_ON_A_PHONE = 10;
  const GROUPS = ["Properties", "Metrics", "Metrics as stored", "Tags", "Hyperparameters"];
  const NUMBER = "property:version";

  let columns = [];
  let document_;
  let names;
  let table;
  let parts;
  let drawing = false;

  const chosenColumns = () => {
    const wanted = state.get().columns;
    return columns.filter((column) => column.key === NUMBER || wanted.includes(column.key))
      .sort((a, b) => wanted.indexOf(a.key) - wanted.indexOf(b.key));
  };

  /** Return the versions that pass the filters and the search. */
  function listed() {
    const { filters: typedFilters, search } = state.get();
    return filters.matching(document_.versions, columns, typedFilters, search);
  }

  function toggleVersion(uri, on) {
    const { selected } = state.get();
    const order = document_.versions.map((version) => version.uri);
    const wanted = new Set(on ? [...selected, uri] : selected.filter((known) => known !== uri));
    state.change({ selected: order.filter((known) => wanted.has(known)) });
  }

  function numberCell(column, row) {
    const cell = make("span", { class: "value" }, values.shown(column, row));
    const interval = column.interval?.(row);
    return make("div", { class: column.first?.(row) ? "number first" : "number" }, cell,
      interval && make("small", {}, notation.bounds(...interval)));
  }

  function textCell(column, row) {
    if (column.type === "time") return make("div", { class: "text" }, elements.time(column.value(row)));
    const text = values.shown(column, row);
    if (column.key === "property:aliases" && text !== notation.NOTHING) {
      return make("div", { class: "text" }, row.aliases.map((alias) =>
        make("span", { class: "badge", title: alias }, elements.short(alias, 24))));
    }
    return make("div", { class: "text", title: text.length > 24 ? text : null, dir: "auto" }, elements.short(text, 200));
  }

  function versionCell(row) {
    const name = names.get(row.uri);
    return make("div", { class: "version" },
      button(elements.short(name, 40), () => details.open(row), {
        class: "link", "aria-label": `details of version ${name}`, title: values.short(row.uri),
      }),
      row.is_baseline ? make("small", {}, "baseline") : null);
  }

  function cell(column, row) {
    if (column.key === NUMBER) return versionCell(row);
    return column.type === "number" ? numberCell(column, row) : textCell(column, row);
  }

  function pickCell(row) {
    const box = make("input", {
      type: "checkbox", checked: state.get().selected.includes(row.uri),
      "aria-label": `compare version ${names.get(row.uri)}`, "data-uri": row.uri,
      change: () => toggleVersion(row.uri, box.checked),
    });
    return make("label", { class: "pick" }, box);
  }

  function head(shown, rows) {
    const { selected } = state.get();
    const all = make("input", {
      type: "checkbox", "aria-label": "compare all listed versions",
      checked: rows.length > 0 && rows.every((row) => selected.includes(row.uri)),
      change: () => {
        const uris = new Set(rows.map((row) => row.uri));
        const others = selected.filter((uri) => !uris.has(uri));
        const wanted = new Set(all.checked ? [...others, ...uris] : others);
        state.change({
          selected: document_.versions.map((version) => version.uri).filter((uri) => wanted.has(uri)),
        });
      },
    });
    return make("thead", {}, make("tr", {},
      make("th", { class: "picks" }, make("label", { class: "pick" }, all)),
      shown.map((column) => make(
        "th", { scope: "col", "data-key": column.key, title: column.name.length > 20 ? column.name : null,
          class: column.type === "number" && column.key !== NUMBER ? "numeric" : "" },
        make("span", { class: "name", dir: "auto" }, elements.short(column.name, 120)),
      ))));
  }

  function tableColumn(column) {
    return {
      type: "lakescore",
      className: [column.type === "number" && column.key !== NUMBER ? "numeric" : "",
        column.key === NUMBER ? "fixed" : ""].join(" "),
      data: null,
      createdCell: (node) => node.setAttribute("data-label", column.key === NUMBER ? "" : elements.short(column.name, 40)),
      render: (_, kind, row) => (kind === "display" ? cell(column, row) : column.value(row)),
    };
  }

  /** Draw the table again from the state. */
  function draw() {
    drawing = true;
    const rows = listed();
    const { different, sort } = state.get();
    const shown = chosenColumns().filter((column) => column.key === NUMBER || !different
      || rows.length < 2 || !values.isEqual(column, rows));
    table?.destroy(true);
    const node = make("table", { class: "versions", "aria-label": "model versions" }, head(shown, rows));
    parts.table.replaceChildren(node);
    const most = folding.isNarrow() ? MANY_ON_A_PHONE : MANY;
    const place = (key) => shown.findIndex((column) => column.key === key) + 1;
    table = new DataTable(node, {
      data: rows,
      columns: [
        { orderable: false, data: null, className: "picks", render: (_, kind, row) => (kind === "display" ? pickCell(row) : "") },
        ...shown.map(tableColumn),
      ],
      order: sort.filter(([key]) => place(key) > 0).map(([key, way]) => [place(key), way]),
      layout: {
        topStart: null, topEnd: null, bottomStart: null, bottomEnd: rows.length > most ? "paging" : null,
      },
      paging: rows.length > most, pageLength: most, autoWidth: false, searching: false, info: false,
      language: { emptyTable: "No version passes the filters." },
    });
    table.on("order.dt", () => {
      if (drawing) return;
      const order = table.order().map(([index, way]) => [shown[index - 1]?.key, way]);
      state.change({ sort: order.filter(([key, way]) => key && way) });
    });
    const hidden = chosenColumns().length - shown.length;
    parts.count.textContent = [
      `${rows.length} of ${document_.versions.length} versions`,
      `${state.get().selected.length} selected`,
      ...(hidden > 0 ? [`${hidden} equal ${hidden === 1 ? "column" : "columns"} hidden`] : []),
    ].join(" · ");
    drawing = false;
  }

  /** Set the ticks from the selection, without drawing the table again. */
  function updateTicks() {
    const { selected } = state.get();
    for (const box of parts.table.querySelectorAll("input[data-uri]")) {
      box.checked = selected.includes(box.dataset.uri);
    }
    const every = parts.table.querySelector("thead input");
    every.checked = [...parts.table.querySelectorAll("input[data-uri]")].every((box) => box.checked);
    parts.count.textContent = parts.count.textContent.replace(/\d+ selected/, `${selected.length} selected`);
  }

  function save() {
    const shown = chosenColumns();
    const bounded = (column) => (column.interval ? [`${column.name}, low`, `${column.name}, high`] : []);
    const heads = ["model", ...shown.flatMap((column) => [column.name, ...bounded(column)])];
    downloads.saveCsv("versions", heads, listed().map((row) => [
      row.name,
      ...shown.flatMap((column) => [
        column.value(row), ...(column.interval ? column.interval(row) ?? [null, null] : []),
      ]),
    ]));
  }

  function grouped(columnsToGroup) {
    return GROUPS.map((group) => [group, columnsToGroup.filter((column) => column.group === group)])
      .filter(([, members]) => members.length);
  }

  /** Return the chooser of columns: groups with a box for each column, and buttons for a group. */
  function chooser() {
    const wanted = () => state.get().columns;
    const set = (keys, on) => {
      const others = wanted().filter((key) => !keys.includes(key));
      state.change({ columns: on ? [...others, ...keys] : others });
    };
    const find = make("input", {
      type: "search", placeholder: "Find a column", "aria-label": "find a column",
      input: () => {
        const text = find.value.toLowerCase();
        for (const label of parts.columns.querySelectorAll("[data-name]")) {
          label.hidden = !label.dataset.name.includes(text);
        }
      },
    });
    const sets = grouped(columns.filter((column) => column.key !== NUMBER)).map(([group, members]) => {
      const keys = members.map((column) => column.key);
      const boxes = members.map((column) => {
        const box = checkbox(elements.short(column.name), wanted().includes(column.key),
          (on) => set([column.key], on), { "data-column": column.key });
        box.dataset.name = column.name.toLowerCase();
        box.title = column.name.length > 28 ? column.name : "";
        return box;
      });
      return make("fieldset", {},
        make("legend", {}, group),
        make("div", { class: "row" },
          button("All", () => set(keys, true), { class: "quiet", "aria-label": `all ${group}` }),
          button("None", () => set(keys, false), { class: "quiet", "aria-label": `none of ${group}` })),
        make("div", { class: "boxes" }, boxes));
    });
    return [make("div", { class: "row" }, find,
      button("Reset columns", () => state.change({
        columns: values.firstColumns(document_, columns, folding.isNarrow()),
      }), { class: "quiet" })), make("div", { class: "groups" }, sets)];
  }

  function updateColumnTicks() {
    const wanted = state.get().columns;
    for (const box of parts.columns.querySelectorAll("input[data-column]")) {
      box.checked = wanted.includes(box.dataset.column);
    }
  }

  /** Return the rows of filters; each has a column and an expression. */
  function filterRows() {
    const typedFilters = state.get().filters;
    const options = grouped(columns).flatMap(([group, members]) =>
      members.map((column) => ({ value: column.key, label: column.name, group })));
    const change = (place, pair) =>
      state.change({ filters: typedFilters.map((filter, at) => (at === place ? pair : filter)) });
    const rows = typedFilters.map(([key, text], place) => {
      const input = make("input", {
        type: "text", value: text, placeholder: filters.HELP, "aria-label": "condition", dir: "auto",
        input: elements.settled(() => {
          const now = state.get().filters;
          state.change({ filters: now.map((filter, at) => (at === place ? [filter[0], input.value] : filter)) });
        }, 200),
      });
      return make("div", { class: "filter" },
        select("Column", options, key, (chosen) => change(place, [chosen, input.value])),
        make("label", { class: "field grow" }, make("span", {}, "Condition"), input),
        button("Remove", () => state.change({ filters: typedFilters.filter((_, at) => at !== place) }),
          { class: "quiet" }));
    });
    const first = options.find((option) => option.group === "Metrics") ?? options[0];
    return [...rows, make("div", { class: "row" },
      button("Add a filter", () => state.change({ filters: [...typedFilters, [first.value, ""]] })),
      make("span", { class: "dim" }, `A condition is ${filters.HELP}.`))];
  }

  /** Return a select that sorts where the table has no head: on a narrow screen. */
  function sorter() {
    const options = [{ value: "", label: "as ranked" }, ...chosenColumns().flatMap((column) => [["asc", "↑"], ["desc", "↓"]].map(
      ([way, arrow]) => ({ value: JSON.stringify([column.key, way]), label: `${column.name} ${arrow}` })))];
    const [first] = state.get().sort;
    return select("Sort", options, first ? JSON.stringify(first) : "",
      (value) => {
        state.change({ sort: value ? [JSON.parse(value)] : [] });
        draw();
      });
  }

  function panel(label, content) {
    const body = make("div", { class: "body" });
    const node = make("details", { class: "panel" }, make("summary", {}, label), body);
    const fill = () => body.replaceChildren(...content());
    node.querySelector("summary").addEventListener("click", () => {
      if (node.open) return;
      for (const other of parts.panels.filter((panel_) => panel_ !== node)) other.open = false;
      fill();
    });
    return { node, body, fill };
  }

  function label(summary, name, number) {
    summary.querySelector("summary").textContent = number ? `${name} (${number})` : name;
  }

  /** Make the list in `place`. */
  function begin(place, newDocument, newColumns) {
    [document_, columns, names] = [newDocument, newColumns, values.labels(newDocument.versions)];
    DataTable.type("lakescore", {
      detect: () => false,
      order: { asc: (a, b) => values.compare(a, b, 1), desc: (a, b) => values.compare(a, b, -1) },
    });
    const choose = panel("Columns", chooser);
    const narrow = panel("Filters", filterRows);
    const search = make("input", {
      type: "search", placeholder: "Search all values", "aria-label": "search versions", dir: "auto",
      input: elements.settled(() => state.change({ search: search.value }), 150),
    });
    const different = checkbox("Differences only", false, (on) => state.change({ different: on }));
    parts = {
      panels: [choose.node, narrow.node], columns: choose.body,
      count: make("p", { class: "count", role: "status" }), sorter: make("div", { class: "sorter" }),
      table: make("div", { class: "scroll list", tabindex: "0", role: "region", "aria-label": "version list" }),
    };
    place.append(
      make("div", { class: "tools" }, search, different,
        make("div", { class: "panels" }, choose.node, narrow.node),
        button("CSV", save, { "aria-label": "download the list as CSV" }),
        button("Reset", () => state.forget(), { class: "quiet", "aria-label": "forget all choices" })),
      parts.sorter, parts.count, parts.table,
    );
    const follow = () => {
      const now = state.get();
      if (document.activeElement !== search) search.value = now.search;
      different.querySelector("input").checked = now.different;
      label(choose.node, "Columns", now.columns.length);
      label(narrow.node, "Filters", now.filters.length);
      if (!parts.sorter.contains(document.activeElement)) parts.sorter.replaceChildren(sorter());
    };
    state.listen((_, changed) => {
      follow();
      const only = (key) => changed.size === 1 && changed.has(key);
      if (only("selected")) updateTicks();
      else if (!["sort", "charts", "theme", "facts"].some(only)) draw();
      if (choose.node.open) updateColumnTicks();
      const typing = narrow.body.contains(document.activeElement)
        && document.activeElement?.matches("input[type=text]");
      if (narrow.node.open && changed.has("filters") && !typing) narrow.fill();
    });
    follow();
    draw();
  }

  return { begin, listed };
})();
