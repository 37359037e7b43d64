// The sources of charts: tables of the document, from whose columns the reader chooses. A source is
// { id, name, columns, rows, baseline, order?, step?, diagonal? }.

const sources = (() => {
  "use strict";

  const CURVES = [
    ["false_positive_rate", "false positive rate"], ["true_positive_rate", "true positive rate"],
    ["recall", "recall"], ["precision", "precision"], ["threshold", "threshold"],
  ];
  const MOST_CLASSES = 12;

  const field = (key, name, type, value = (row) => row[key]) => ({ key, name, type, value });

  function ofVersion(names) {
    return field("version", "version", "text", (row) => names.get(row.uri));
  }

  function ofSlices(document_, names) {
    const lines = document_.metrics.filter((line) => line.slice_by !== null && line.scope === "common");
    if (lines.length === 0) return null;
    const metrics = [...new Set(lines.map((line) => line.metric))];
    const cells = new Map();
    for (const line of lines) {
      const key = JSON.stringify([line.uri, line.slice]);
      if (!cells.has(key)) {
        cells.set(key, {
          uri: line.uri, slice: line.slice, by: line.slice_by, rows: line.rows, small: line.small,
          lines: new Map(),
        });
      }
      cells.get(key).lines.set(line.metric, line);
    }
    const measured = (metric) => {
      const of = (row) => row.lines.get(metric);
      return [
        {
          ...field(`metric:${metric}`, metric, "number", (row) => of(row)?.value ?? null),
          interval: (row) => values.pair(of(row)?.low, of(row)?.high),
        },
        {
          ...field(`difference:${metric}`, `${metric}, difference to the baseline`, "number",
            (row) => of(row)?.difference ?? null),
          interval: (row) => values.pair(of(row)?.difference_low, of(row)?.difference_high),
          zero: true, toBaseline: true,
        },
      ];
    };
    const few = (row) => (row.small ? `${row.slice} *` : row.slice);
    return {
      id: "slices", name: "Slices", rows: [...cells.values()],
      columns: [
        ofVersion(names), field("slice", "slice (* few rows)", "text", few),
        field("by", "column of the slice", "text"), field("rows", "rows", "number"),
        field("small", "few rows", "text", (row) => (row.small ? "few rows" : "enough rows")),
        ...metrics.flatMap(measured),
      ],
    };
  }

  function ofBars(document_, names, kind, name) {
    const rows = (document_.histograms ?? []).filter((bar) => bar.kind === kind);
    if (rows.length === 0) return null;
    const totals = new Map();
    const part = (bar) => JSON.stringify([bar.uri, bar.class ?? null, bar.is_class ?? null]);
    for (const bar of rows) totals.set(part(bar), (totals.get(part(bar)) ?? 0) + bar.weight);
    const classes = kind !== "score" ? [] : [
      field("class", "class", "text"),
      field("is_class", "rows", "text", (row) => (row.is_class ? "of the class" : "of others")),
    ];
    return {
      id: kind, name, rows, step: true, order: (row) => row.from,
      columns: [
        ofVersion(names),
        field("at", kind === "residual" ? "residual (label minus prediction)" : kind, "number",
          (row) => (row.from + row.to) / 2),
        { ...field("weight", "number of rows", "number"), least: 0 },
        {
          ...field("share", "share of rows", "number", (row) => row.weight / (totals.get(part(row)) || 1)),
          least: 0,
        },
        ...classes,
      ],
    };
  }

  function ofCurves(document_, names) {
    const rows = document_.curves ?? [];
    if (rows.length === 0) return null;
    return {
      id: "curves", name: "ROC and precision-recall", rows, order: (row) => row.threshold,
      columns: [
        ofVersion(names), ...CURVES.map(([key, name]) => ({ ...field(key, name, "number"), unit: true })),
        field("class", "class", "text"),
      ],
      diagonal: (x, y) => x === "false_positive_rate" && y === "true_positive_rate",
    };
  }

  function ofCalibration(document_, names) {
    const rows = document_.calibration ?? [];
    if (rows.length === 0) return null;
    return {
      id: "calibration", name: "Calibration", rows, order: (row) => row.mean_score,
      columns: [
        ofVersion(names), { ...field("mean_score", "mean score", "number"), unit: true },
        { ...field("share", "share of correct rows", "number"), unit: true }, field("weight", "number of rows", "number"),
      ],
      diagonal: (x, y) => x === "mean_score" && y === "share",
    };
  }

  function ofConfusion(document_, names) {
    const classes = document_.problem?.classes ?? [];
    const weights = new Map((document_.confusion ?? []).map(
      (cell) => [JSON.stringify([cell.uri, cell.true, cell.predicted]), cell.weight],
    ));
    if (weights.size === 0 || classes.length > MOST_CLASSES) return null;
    const rows = document_.versions.flatMap(({ uri }) => classes.flatMap((actual) => {
      const cells = classes.map((predicted) => ({
        uri, true: actual, predicted, weight: weights.get(JSON.stringify([uri, actual, predicted])) ?? 0,
      }));
      const total = cells.reduce((sum, cell) => sum + cell.weight, 0);
      return cells.map((cell) => ({ ...cell, share: total ? cell.weight / total : null }));
    }));
    return {
      id: "confusion", name: "Confusion matrices", rows,
      columns: [
        ofVersion(names), field("true", "true class", "text"),
        field("predicted", "predicted class", "text"), field("weight", "number of rows", "number"),
        field("share", "share of the true class", "number"),
      ],
    };
  }

  /** Return the sources of charts by id, without those that have no data. */
  function of(document_, columns) {
    const names = values.labels(document_.versions);
    const number = columns.find((column) => column.key === "property:version");
    const nameColumn = field("property:label", "name of the version", "text", (row) => names.get(row.uri));
    const all = [
      {
        id: "versions", name: "Versions: properties, metrics, tags, hyperparameters",
        rows: document_.versions, columns: [number, { ...nameColumn, group: "Properties" },
          ...columns.filter((column) => column !== number)],
        order: number.value,
      },
      ofSlices(document_, names),
      ofBars(document_, names, "residual", "Residuals"),
      ofBars(document_, names, "prediction", "Predictions"),
      ofBars(document_, names, "score", "Score distributions"),
      ofCurves(document_, names),
      ofCalibration(document_, names),
      ofConfusion(document_, names),
    ];
    return new Map(all.filter((source) => source !== null)
      .map((source) => [source.id, { ...source, baseline: document_.baseline }]));
  }

  /** Return the charts that the page begins with, or offers, if the document has their data. */
  function presets(document_, chartSources, columns) {
    const metrics = columns.filter((column) => column.group === "Metrics"
      && !values.isLeftOut(document_, column.name));
    const main = metrics.find((column) => column.name === document_.problem?.rank_by) ?? metrics[0];
    const has = (id, key) => chartSources.get(id)?.columns.some((column) => column.key === key);
    const single = new Set((document_.curves ?? []).map((point) => point.class)).size < 2;
    const facet = (key) => (single ? "" : key);
    const name = main?.name;
    const listed = values.isNumbered(document_.versions)
      ? { source: "versions", kind: "line", x: "property:version" }
      : { source: "versions", kind: "scatter", x: "property:label" };
    const tunable = columns.filter((column) => column.group === "Hyperparameters"
      && column.type === "number" && new Set(document_.versions.map(column.value)).size > 2);
    return [
      main && { ...listed, y: main.key, title: `${name} over the versions` },
      has("versions", "property:difference") && {
        source: "versions", kind: "scatter", x: "property:difference", y: "property:label",
        colour: "property:label", title: `${name}: difference to the baseline`,
      },
      main && has("slices", `metric:${name}`) && {
        source: "slices", kind: "heat", x: "version", y: "slice",
        colour: has("slices", `difference:${name}`) && document_.versions.length > 1
          ? `difference:${name}` : `metric:${name}`,
        title: document_.versions.length > 1 ? `${name} by slice, against the baseline` : `${name} by slice`,
      },
      chartSources.has("residual") && {
        source: "residual", kind: "line", x: "at", y: "share", colour: "version", title: "Residuals",
      },
      chartSources.has("prediction") && {
        source: "prediction", kind: "line", x: "at", y: "share", colour: "version", title: "Predictions",
      },
      chartSources.has("curves") && {
        source: "curves", kind: "line", x: "false_positive_rate", y: "true_positive_rate",
        colour: "version", facet: facet("class"), title: "ROC curve",
      },
      chartSources.has("curves") && {
        source: "curves", kind: "line", x: "recall", y: "precision", colour: "version",
        facet: facet("class"), title: "Precision and recall",
      },
      chartSources.has("calibration") && {
        source: "calibration", kind: "line", x: "mean_score", y: "share", colour: "version",
        title: "Calibration",
      },
      chartSources.has("score") && {
        source: "score", kind: "line", x: "at", y: "share", colour: "version", facet: "is_class",
        title: "Scores, of rows of the class and of others",
      },
      chartSources.has("confusion") && {
        source: "confusion", kind: "heat", x: "predicted", y: "true", colour: "share",
        facet: "version", title: "Confusion matrices",
      },
      has("versions", "property:psi") && {
        source: "versions", kind: "bar", x: "property:label", y: "property:psi", colour: "",
        title: "Shift of predictions against the baseline's (PSI)",
      },
      metrics.length > 1 && document_.versions.length > 1 && {
        source: "versions", kind: "parallel", colour: "property:label",
        dimensions: [...tunable.slice(0, 3), ...metrics.slice(0, 4)].map((column) => column.key),
        title: "Hyperparameters and metrics",
      },
      has("slices", `metric:${name}`) && {
        source: "slices", kind: "box", x: "version", y: `metric:${name}`, colour: "",
        title: `${name} over the slices`,
      },
    ].filter(Boolean).map((chart) => ({
      of: "selected", x: "", y: "", colour: "", facet: "", dimensions: [], ...chart,
    }));
  }

  return { of, presets };
})();
