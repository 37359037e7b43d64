// Tables of the selected versions: differences of their facts, metrics, slices, failures.

const facts = (() => {
  "use strict";

  const { button, checkbox, make, select } = elements;
  const METADATA = [
    "status", "description", "aliases", "run_name", "flavours", "formats", "mlflow_version",
    "python_version", "size", "digest",
  ];
  const MOST = 12;

  let document_;
  let names;

  /** Return the type of a signature's column as readable text. */
  function typeOf(column) {
    const tensor = column["tensor-spec"];
    if (tensor) return `tensor(${tensor.dtype}, ${JSON.stringify(tensor.shape)})`;
    const inner = ["items", "properties", "shape"].filter((key) => column[key])
      .map((key) => JSON.stringify(column[key])).join(" ");
    const optional = column.required === false ? ", optional" : "";
    const defaultText = "default" in column ? `, default ${JSON.stringify(column.default)}` : "";
    return `${column.type}${inner}${optional}${defaultText}`;
  }

  const SHOWN = { size: notation.size, created_at: elements.time, updated_at: elements.time };

  /** Return a fact of a version as a text or, for a time, an element. */
  function textOf(key, value) {
    if (values.isEmpty(value)) return value;
    const plain = Array.isArray(value) ? value.join(", ") : value;
    return Object.hasOwn(SHOWN, key) ? SHOWN[key](plain) : plain;
  }

  function columnsOf(part) {
    return (version) => new Map((version.signature?.[part] ?? []).map(
      (column, place) => [column.name ?? `#${place + 1}`, typeOf(column)],
    ));
  }

  const GROUPS = [
    ["Hyperparameters", (version) => values.mapping(version.params)],
    ["Tags", (version) => values.mapping(version.tags)],
    ["Signature: inputs", columnsOf("inputs")],
    ["Signature: outputs", columnsOf("outputs")],
    ["Signature: parameters", columnsOf("params")],
    ["Properties", (version) => new Map(METADATA.map((key) => [key.replaceAll("_", " "), textOf(key, version[key])]))],
    ["Files", (version) => new Map((version.files ?? []).map((file) => [file.path, notation.size(file.size)]))],
  ];

  /** Return the facts of versions as lines: { group, key, values, differs }. */
  function lines(versions) {
    return GROUPS.flatMap(([group, read]) => {
      const maps = versions.map(read);
      const keys = new Set(maps.flatMap((map) => [...map.keys()]));
      return [...keys].map((key) => {
        const all = maps.map((map) => map.get(key) ?? null);
        return { group, key, values: all, differs: all.some((value) => value !== all[0]) };
      }).filter((line) => line.values.some((value) => !values.isEmpty(value)));
    });
  }

  function selectedVersions() {
    const { selected } = state.get();
    return document_.versions.filter((version) => selected.includes(version.uri));
  }

  const headOf = (version) => make("span", { class: "name", dir: "auto", title: values.short(version.uri) },
    elements.short(names.get(version.uri), 40));

  function clamp(value) {
    const text = values.isEmpty(value) ? "–" : String(value);
    return make("span", { class: "clamp", dir: "auto", title: text.length > 60 ? text : null }, elements.short(text, 300));
  }

  function note(versions) {
    return versions.length > MOST
      ? make("p", { class: "dim" }, `The first ${MOST} of ${versions.length} selected versions.`) : null;
  }

  /** Return the differences of signature, hyperparameters, tags and files. */
  function differences() {
    const versions = selectedVersions().slice(0, MOST);
    if (versions.length < 2) return [make("p", { class: "dim" }, "Select two or more versions.")];
    const only = state.get().facts.different;
    const all = lines(versions);
    const shown = all.filter((line) => line.differs || !only);
    const rows = [];
    let group = null;
    for (const line of shown) {
      if (line.group !== group) {
        group = line.group;
        rows.push(make("tr", { class: "group" }, make("th", { colspan: versions.length + 1, scope: "colgroup" },
          make("span", {}, group))));
      }
      rows.push(make("tr", { class: line.differs ? "differs" : "" },
        make("th", { scope: "row", title: line.key },
          make("span", { class: "clamp", dir: "auto" }, elements.short(line.key, 120))),
        line.values.map((value) => make("td", {}, clamp(value)))));
    }
    const heads = ["", ...versions.map(headOf)];
    const verdicts = versions.filter((version) => version.compatibility).map((version) => {
      const { verdict, with: replaced, reasons } = version.compatibility;
      const text = elements.short(reasons.join("; "), 600);
      return make("li", {},
        make("span", { class: verdict === "breaking" ? "bad mark" : "good mark" }, verdict),
        make("span", {}, ` ${names.get(version.uri)} in place of ${values.short(replaced)}: ${text}`));
    });
    return [
      verdicts.length ? make("ul", { class: "plain" }, verdicts) : null,
      note(selectedVersions()),
      make("div", { class: "tools" },
        checkbox("Differences only", only, (on) => state.change({ facts: { ...state.get().facts, different: on } })),
        button("CSV", () => downloads.saveCsv("differences",
          ["group", "name", ...versions.map((version) => values.short(version.uri))],
          shown.map((line) => [line.group, line.key, ...line.values])),
        { "aria-label": "download the differences as CSV" })),
      shown.length ? elements.table(heads, rows, { label: "differences of the selected versions", class: "facts" })
        : make("p", { class: "dim" }, "The versions do not differ."),
    ].filter(Boolean);
  }

  function metricCell(line) {
    if (!line || line.value === null) return make("span", {}, "–");
    const bounds = values.pair(line.low, line.high);
    return make("div", { class: line.rank === 1 ? "number first" : "number" },
      make("span", { class: "value" }, notation.number(line.value, bounds && bounds[1] - bounds[0])),
      bounds && make("small", {}, notation.bounds(...bounds)));
  }

  /** Return all metrics of the selected versions over the rows of one scope. */
  function metrics() {
    const versions = selectedVersions().slice(0, MOST);
    const scopes = [...new Set(document_.metrics.map((line) => line.scope))];
    const scopeNames = {
      common: "rows that every version could score", own: "rows that each version could score",
      stored: "as stored",
    };
    const scope = scopes.includes(state.get().facts.scope) ? state.get().facts.scope : scopes[0];
    const measured = values.metricLines(document_, scope);
    const shown = [...measured].filter(([name]) => !values.isLeftOut(document_, name));
    const rows = shown.map(([name, byVersion]) => [
      make("span", { class: "clamp", dir: "auto", title: name }, elements.short(name, 80)),
      ...versions.map((version) => metricCell(byVersion.get(version.uri))),
    ]);
    if (!rows.length || !versions.length) {
      return [make("p", { class: "dim" }, "Nothing to show: select versions in the list.")];
    }
    const left = Object.entries(document_.left_out ?? {})
      .filter(([name]) => measured.has(name) && values.isLeftOut(document_, name))
      .map(([name, reason]) => make("p", { class: "dim" }, `${name} is left out: ${reason}. The CSV file has it.`));
    const csvRows = () => [...measured].flatMap(([name, byVersion]) => {
      const known = versions.filter((version) => byVersion.has(version.uri));
      return known.map((version) => {
        const line = byVersion.get(version.uri);
        return [name, values.short(version.uri), line.value, line.low, line.high, line.difference,
          line.difference_low, line.difference_high, line.rows, line.rank, line.dataset ?? null, line.digest ?? null];
      });
    });
    const scopeOptions = scopes.map((other) => ({ value: other, label: scopeNames[other] ?? other }));
    return [
      note(selectedVersions()),
      make("div", { class: "tools" },
        scopes.length > 1 ? select("Over the", scopeOptions, scope,
          (value) => state.change({ facts: { ...state.get().facts, scope: value } })) : null,
        button("CSV", () => downloads.saveCsv("metrics", ["metric", "version", "value", "low", "high",
          "difference", "difference low", "difference high", "rows", "rank", "dataset", "digest"], csvRows()),
        { "aria-label": "download the metrics as CSV" })),
      scope === "own"
        ? make("p", { class: "dim" }, "The versions have different rows here, so the columns cannot be compared.") : null,
      elements.table(["metric", ...versions.map(headOf)], rows, { label: "metrics of the selected versions", class: "numbers" }),
      scope === "common" ? make("p", { class: "dim" }, "Bold: rank 1, alone or shared.") : null,
      ...left,
    ].filter(Boolean);
  }

  /** Return the metric that ranks, by slice. */
  function slices() {
    const versions = selectedVersions().slice(0, MOST);
    const rankBy = document_.problem?.rank_by;
    const bySlice = new Map();
    for (const line of document_.metrics) {
      if (line.slice_by === null || line.metric !== rankBy) continue;
      if (!bySlice.has(line.slice)) bySlice.set(line.slice, new Map());
      bySlice.get(line.slice).set(line.uri, line);
    }
    const rows = [...bySlice].map(([slice, cells]) => {
      const any = [...cells.values()][0];
      return make("tr", { class: any.small ? "few" : "" },
        make("th", { scope: "row" }, make("span", { class: "clamp", dir: "auto", title: slice }, elements.short(slice, 80)),
          any.small ? make("small", {}, "few rows") : null),
        make("td", {}, notation.number(any.rows)),
        versions.map((version) => make("td", {}, metricCell(cells.get(version.uri)))));
    });
    return [
      make("div", { class: "tools" }, button("CSV", () => downloads.saveCsv("slices",
        ["slice", "version", "metric", "rows", "few rows", "value", "low", "high", "difference", "rank"],
        document_.metrics.filter((line) => line.slice_by !== null).map((line) => [line.slice, values.short(line.uri),
          line.metric, line.rows, line.small ? "yes" : "no", line.value, line.low, line.high, line.difference, line.rank])),
      { "aria-label": "download the slices as CSV" })),
      elements.table(["slice", "rows", ...versions.map(headOf)], rows,
        { label: `slices by ${elements.short(rankBy, 60)}`, class: "numbers" }),
      make("p", { class: "dim" }, "Bold: rank 1 in the slice, alone or shared. The intervals in a slice are corrected"
        + " for the pairs of versions, not for the number of slices."),
    ];
  }

  /** Return rows that versions could not score, labels that flip, and shifts. */
  function troubles() {
    const flips = new Map((document_.flips ?? []).map((item) => [item.uri, item]));
    const shifts = new Map((document_.shifts ?? []).map((item) => [item.uri, item]));
    const share = (part, whole) => notation.percent(whole ? part / whole : null);
    const versions = selectedVersions().slice(0, MOST);
    const labelled = flips.size > 0;
    const rows = versions.map((version) => {
      const flip = flips.get(version.uri);
      const errors = Object.entries(version.errors ?? {});
      return [
        headOf(version),
        make("div", { class: "number" }, notation.number(version.rows_failed),
          errors.map(([kind, count]) =>
            make("small", { class: "clamp" }, `${elements.short(kind, 60)}: ${notation.number(count)}`))),
        version.is_baseline ? "baseline" : notation.number(shifts.get(version.uri)?.psi),
        ...(labelled ? [
          make("div", { class: "number" }, notation.number(flip?.flips),
            flip ? make("small", {}, share(flip.flips, flip.rows)) : null),
          notation.number(flip?.mended), notation.number(flip?.broken),
        ] : []),
      ];
    });
    const heads = ["version", "rows it could not score", "shift of predictions (PSI)",
      ...(labelled ? ["labels that flip", "mended", "broken"] : [])];
    return [elements.table(heads, rows, { label: "failures and shifts", class: "numbers" })];
  }

  /** @type {[id: string, content: () => Node[], has: () => boolean][]} */
  const PARTS = [
    ["differences", differences, () => true],
    ["metrics", metrics, () => document_.metrics.length > 0],
    ["slices", slices, () => document_.metrics.some((line) => line.slice_by !== null)],
    ["troubles", troubles, () => document_.source === "compare"],
  ];

  /** Fill the parts of the page that are tables of the selected versions. */
  function begin(newDocument) {
    [document_, names] = [newDocument, values.labels(newDocument.versions)];
    const fill = () => {
      for (const [id, content, has] of PARTS) {
        const place = document.getElementById(id);
        if (!place) continue;
        if (has()) elements.get(".content", place).replaceChildren(...content());
        else place.remove();
      }
    };
    fill();
    state.listen((_, changed) => {
      if (changed.size === 0 || changed.has("selected") || changed.has("facts")) fill();
    });
  }

  return { begin, lines, textOf, typeOf };
})();
