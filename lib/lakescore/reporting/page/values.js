// The document's facts about its versions, as columns: pure functions, no DOM.
//
// A column is { key, group, name, type, value(row), interval(row)?, show(value)? }; `type` is "number",
// "time" or "text", and `show` writes a value that is not just a number. Names come from people, so
// mappings are read as Maps: `__proto__` is a name like any other.

const values = (() => {
  "use strict";

  /** @type {[key: string, name: string, type: string, show?: (value: any) => string][]} */
  const PROPERTIES = [
    ["rank", "rank", "number"],
    ["aliases", "aliases", "text"],
    ["description", "description", "text"],
    ["created_at", "created", "time"],
    ["updated_at", "updated", "time"],
    ["run_name", "run", "text"],
    ["status", "status", "text"],
    ["size", "size", "number", notation.size],
    ["rows_scored", "rows scored", "number"],
    ["rows_failed", "rows it could not score", "number"],
    ["rows_per_second", "rows a CPU second", "number"],
    ["flavours", "flavours", "text"],
    ["formats", "formats", "text"],
    ["mlflow_version", "MLflow", "text"],
    ["python_version", "Python", "text"],
    ["run_id", "run id", "text"],
    ["logged_model_id", "logged model", "text"],
    ["digest", "digest", "text"],
    ["source", "source", "text"],
    ["reference", "reference as typed", "text"],
  ];
  const FLIPS = [
    ["flips", "labels that flip"], ["mended", "labels mended"], ["broken", "labels broken"],
  ];

  const mapping = (object) => new Map(Object.entries(object ?? {}));

  /** Return `flight-delay/3` of `models:/flight-delay/3`. */
  const short = (uri) => uri.replace(/^models:\//, "");

  /** Return whether a number names each version: all are of one model, and each has a number. */
  function isNumbered(versions) {
    const names = new Set(versions.map((version) => version.name));
    return names.size === 1 && versions.every((version) => !isEmpty(version.version));
  }

  /** Return the labels of versions: the number alone if it names each version. */
  function labels(versions) {
    const numbered = isNumbered(versions);
    return new Map(versions.map((version) => [
      version.uri, numbered ? `v${version.version}` : short(version.uri),
    ]));
  }

  /** Return the text of a cell. */
  function shown(column, row) {
    const value = column.value(row);
    if (value === null || value === undefined || value === "") return notation.NOTHING;
    if (column.key === "property:version") return String(value);
    if (column.show) return column.show(value);
    if (column.type === "number") {
      const bounds = column.interval?.(row);
      return notation.number(value, bounds ? bounds[1] - bounds[0] : null);
    }
    return column.type === "time" ? notation.time(value) : String(value);
  }

  const plain = (value) => (Array.isArray(value) ? value.join(", ") : value ?? null);

  /** @param {[key: string, name: string, type: string, show?: (value: any) => string]} fact */
  function property([key, name, type, show]) {
    return {
      key: `property:${key}`, group: "Properties", name, type, show, value: (row) => plain(row[key]),
    };
  }

  /** Return the metric lines over all rows of one scope, by metric and version. */
  function metricLines(document_, scope) {
    const byMetric = new Map();
    for (const line of document_.metrics) {
      if (line.slice_by !== null || line.scope !== scope) continue;
      if (!byMetric.has(line.metric)) byMetric.set(line.metric, new Map());
      byMetric.get(line.metric).set(line.uri, line);
    }
    return byMetric;
  }

  /** @returns {[low: number, high: number] | null} */
  const pair = (low, high) =>
    low === null || low === undefined || high === null || high === undefined ? null : [low, high];

  function metric(name, lines, group) {
    return {
      key: `metric:${name}`, group, name, type: "number",
      value: (row) => lines.get(row.uri)?.value ?? null,
      interval: (row) => pair(lines.get(row.uri)?.low, lines.get(row.uri)?.high),
      first: (row) => lines.get(row.uri)?.rank === 1,
    };
  }

  function differenceTo(name, lines) {
    return {
      key: "property:difference", group: "Properties", name: `${name}, difference to the baseline`,
      type: "number", zero: true, toBaseline: true,
      value: (row) => lines.get(row.uri)?.difference ?? null,
      interval: (row) =>
        pair(lines.get(row.uri)?.difference_low, lines.get(row.uri)?.difference_high),
    };
  }

  function byUri(key, name, rows, field) {
    const valueByUri = new Map(rows.map((row) => [row.uri, row[field]]));
    return {
      key: `property:${key}`, group: "Properties", name, type: "number",
      value: (row) => valueByUri.get(row.uri) ?? null,
    };
  }

  /** Return a column for each key of a mapping that any version has. */
  function ofMapping(versions, field, group, prefix) {
    const maps = new Map(versions.map((version) => [version.uri, mapping(version[field])]));
    const names = new Set([...maps.values()].flatMap((map) => [...map.keys()]));
    return [...names].sort().map((name) => {
      const value = (row) => maps.get(row.uri)?.get(name) ?? null;
      const numeric = versions.every((row) => isNumber(value(row)));
      return {
        key: `${prefix}:${name}`, group, name, type: numeric ? "number" : "text",
        value: numeric ? (row) => asNumber(value(row)) : value,
      };
    });
  }

  /** Return whether a value is a number, a text of a number, or null; hyperparameters are texts. */
  function isNumber(value) {
    if (value === null || typeof value === "number") return true;
    return /^[+-]?(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value.trim());
  }

  function asNumber(value) {
    return typeof value === "string" ? Number(value.replaceAll("_", "")) : value;
  }

  /** Return all columns of the version list; the version number comes first. */
  function columns(document_) {
    const { versions } = document_;
    const scope = document_.source === "registry" ? "stored" : "common";
    const measured = metricLines(document_, scope);
    const names = labels(versions);
    const ranking = measured.get(document_.problem?.rank_by);
    const stored = document_.source === "registry" ? [] :
      ofMapping(versions, "metrics", "Metrics as stored", "stored");
    return [
      {
        key: "property:version", group: "Properties", name: "version", type: "number",
        value: (row) => row.version, label: (row) => names.get(row.uri),
      },
      ...PROPERTIES.map(property),
      ...(ranking ? [differenceTo(document_.problem.rank_by, ranking)] : []),
      { ...byUri("psi", "shift of predictions (PSI)", document_.shifts ?? [], "psi"), toBaseline: true },
      ...FLIPS.map(([key, name]) => byUri(key, name, document_.flips ?? [], key)),
      ...[...measured].map(([name, lines]) => metric(name, lines, "Metrics")),
      ...stored,
      ...ofMapping(versions, "tags", "Tags", "tag"),
      ...ofMapping(versions, "params", "Hyperparameters", "param"),
    ].filter((column) => versions.some((row) => !isEmpty(column.value(row))));
  }

  const isEmpty = (value) => value === null || value === undefined || value === "";

  /** Return whether a column has the same value in all rows. */
  function isEqual(column, rows) {
    return rows.every((row) => column.value(row) === column.value(rows[0]));
  }

  /** Return whether the document says that a metric means nothing on its labels. */
  const isLeftOut = (document_, name) => name !== document_.problem?.rank_by
    && Object.hasOwn(document_.left_out ?? {}, name);

  /** Return the versions that are ticked first: all of a few, or the best, those with aliases, the newest. */
  function firstVersions(document_, most) {
    const { versions } = document_;
    if (versions.length <= most) return versions.map((version) => version.uri);
    const newest = versions.reduce((a, b) => (a.created_at >= b.created_at ? a : b));
    const called = ["champion", "challenger"].map(
      (alias) => versions.find((version) => (version.aliases ?? []).includes(alias)),
    );
    const wanted = new Set([
      best(document_), ...called, versions.find((version) => version.is_baseline), newest,
    ]);
    return versions.filter((version) => wanted.has(version)).map((version) => version.uri);
  }

  /** Return the best version: the first of a comparison, or the one with the best stored value. */
  function best(document_) {
    const { versions, problem } = document_;
    const lines = metricLines(document_, "stored").get(problem?.rank_by);
    if (document_.source !== "registry" || !lines) return versions[0];
    const sign = problem.greater_is_better ? -1 : 1;
    const value = (version) => lines.get(version.uri)?.value ?? null;
    return [...versions].sort((a, b) => compare(value(a), value(b), sign))[0];
  }

  /** Return the keys of the columns that the page shows first; few of them on a narrow screen. */
  function firstColumns(document_, all, isNarrow) {
    const { versions } = document_;
    const metrics = all.filter((column) => column.group === "Metrics" && !column.name.includes("/")
      && !isLeftOut(document_, column.name));
    const rankBy = `metric:${document_.problem?.rank_by}`;
    const ranked = metrics.filter((column) => column.key === rankBy);
    // Relative errors of labels that are zero, as scikit-learn defines them, are not readable.
    const readable = (column) => versions.every((version) => !(Math.abs(column.value(version)) > 1e9));
    const others = metrics.filter((column) => column.key !== rankBy && readable(column))
      .slice(0, isNarrow && ranked.length ? 0 : 3 - ranked.length);
    const failed = versions.some((version) => version.rows_failed > 0);
    const wanted = [
      "property:rank", "property:aliases", ...ranked.map((column) => column.key),
      "property:difference", ...others.map((column) => column.key),
      ...(failed ? ["property:rows_failed"] : []),
      ...(isNarrow ? [] : ["property:run_name", "property:created_at"]),
    ];
    const existing = new Set(all.map((column) => column.key));
    return wanted.filter((key) => existing.has(key));
  }

  const collator = new Intl.Collator("en", { numeric: true });

  /** Compare two values; empty values come last in both directions. */
  function compare(a, b, sign) {
    if (isEmpty(a) || isEmpty(b)) return Number(isEmpty(a)) - Number(isEmpty(b));
    const order = typeof a === "number" && typeof b === "number"
      ? a - b : collator.compare(String(a), String(b));
    return sign * order;
  }

  return {
    columns, compare, firstColumns, firstVersions, isEmpty, isLeftOut, isEqual, isNumbered, labels, mapping, metricLines, pair,
    short, shown,
  };
})();
