// A chart that the reader describes, as Vega-Lite: pure functions. Names from the document become
// values, titles and domains. They never become fields, sort orders or tooltips, because Vega-Lite
// writes these into expressions.

const charts = (() => {
  "use strict";

  const KINDS = [
    ["line", "Line"], ["bar", "Bar"], ["scatter", "Scatter"], ["box", "Box"], ["heat", "Heat map"],
    ["parallel", "Parallel coordinates"],
  ];
  const THEMES = {
    light: {
      colours: ["#3f66cf", "#e07b28", "#25946f", "#cc4a78", "#8a5fd0", "#86693a", "#2f97bd",
        "#6f7b8d", "#a8951a", "#c04d36"],
      ink: "#1c2024", dim: "#60646c", line: "#e3e5e9", paper: "#ffffff", none: "#eef0f3",
      good: ["#1f8a5b", "#f4f5f7", "#d2527f"], rise: ["#eaf0fb", "#4269d0", "#1d2f6f"],
    },
    dark: {
      colours: ["#7b9cf5", "#f2a65a", "#4cc9a0", "#ee7fa6", "#b794f6", "#c9a86a", "#5cc5e6",
        "#a5afbd", "#d8c74a", "#f08a72"],
      ink: "#edeef0", dim: "#a3a9b3", line: "#2f343c", paper: "#181b20", none: "#23272e",
      good: ["#3ec28a", "#2a2f37", "#ea6f9b"], rise: ["#1f2937", "#4f7ae0", "#c9d8ff"],
    },
  };
  const FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
  const LEGEND_FITS = 10;
  const TICKS = 15;
  const MOST_JOINED = 50;
  const TIP = { field: "tip", type: "nominal" };
  const TEXT_FITS = 240;
  const TEXT_NEEDS = 34;
  const CELL = 26;
  const HEIGHT = 250;

  /**
   * The X or Y channel of an encoding, without its field.
   *
   * @typedef {{ type: string, title: string | null, sort?: null, stack?: null, scale?: object, axis?: object }} Channel
   */

  const NAMELESS = new Set(["version", "property:label"]);

  /** Return a text that Vega can look up in an object, where a few names exist already. */
  function safe(value) {
    return typeof value === "string" && value in Object.prototype ? `${value}\u200b` : value;
  }

  const title = (column) => safe(elements.short(column?.name ?? "", 48));
  const at = (source, key) => source.columns.find((column) => column.key === key);

  /** Return the title of a chart, or the names of its axes if the reader gave it no title. */
  function titleOf(chart, source) {
    if (chart.title) return chart.title;
    if (chart.kind === "parallel") return "Parallel coordinates";
    const [x, y] = [at(source, chart.x), at(source, chart.y)];
    return `${elements.short(y?.name ?? "rows", 60)} by ${elements.short(x?.name ?? "version", 60)}`;
  }

  /** Return the content of a row's tooltip: names and values, each column once. */
  function tipOf(row, columns) {
    const columnLines = [...new Set(columns.filter(Boolean))].map((column) => {
      const bounds = column.interval?.(row);
      const text = values.shown(column, row);
      return [title(column), bounds ? `${text} (${notation.bounds(...bounds)})` : elements.short(text, 80)];
    });
    const version = ["model version", elements.short(values.short(row.uri), 80)];
    return { lines: [version, ...columnLines, ...(row.rows ? [["rows", notation.number(row.rows)]] : [])] };
  }

  /** Return the rows that a chart shows, as plain values with our field names. */
  function rowsOf(chart, source, uris) {
    const column = (key) => at(source, key);
    const [x, y, colour, facet] = [chart.x, chart.y, chart.colour, chart.facet].map(column);
    const interval = (measured, row) => measured?.interval?.(row) ?? [null, null];
    // The baseline has no difference to itself, so it has no row beside those of the others.
    const isOfDifferences = [x, y, colour].some((shown) => shown?.toBaseline);
    const chartRows = source.rows.filter((row) => uris.includes(row.uri)
      && !(isOfDifferences && row.uri === source.baseline));
    const order = new Map(uris.map((uri, place) => [uri, place]));
    chartRows.sort((a, b) => order.get(a.uri) - order.get(b.uri));
    return chartRows.map((row) => {
      const [xLow, xHigh] = interval(x, row);
      const [yLow, yHigh] = interval(y, row);
      return {
        tip: tipOf(row, [x, y, colour, facet]),
        x: safe(x?.value(row) ?? null), y: safe(y?.value(row) ?? null),
        c: safe(colour?.value(row) ?? null), f: safe(facet?.value(row) ?? null),
        n: order.get(row.uri), o: source.order?.(row) ?? 0,
        xLow, xHigh, yLow, yHigh, small: row.small === true, rows: row.rows ?? null, uri: row.uri,
      };
    });
  }

  /** Return the heads and the rows of a chart, for a CSV file. */
  function tableOf(chart, source, uris) {
    const keys = chart.kind === "parallel"
      ? chart.dimensions : [chart.x, chart.y, chart.colour, chart.facet];
    const columns = [...new Set(keys)].map((key) => at(source, key)).filter(Boolean);
    const bounded = columns.filter((column) => column.interval);
    const chartRows = source.rows.filter((row) => uris.includes(row.uri));
    const heads = ["model version", ...columns.map((column) => column.name),
      ...bounded.flatMap((column) => [`${column.name}, low`, `${column.name}, high`])];
    return [heads, chartRows.map((row) => [
      values.short(row.uri), ...columns.map((column) => column.value(row)),
      ...bounded.flatMap((column) => column.interval(row) ?? [null, null]),
    ])];
  }

  const unique = (rows, field) => [...new Set(rows.map((row) => row[field]))].filter((v) => v !== null);

  function isDiscrete(column) {
    return !column || column.type === "text";
  }

  /** @returns {Channel} */
  function axis(column, discrete, order, more = {}) {
    const isVersionNumber = column?.key === "property:version" && !discrete;
    if (column?.type === "time" && !discrete) return { type: "temporal", title: title(column), ...more };
    if (discrete) {
      const axisTitle = NAMELESS.has(column?.key) ? null : title(column);
      return { type: "nominal", title: axisTitle, sort: null, scale: { domain: order }, ...more };
    }
    const scale = column.unit ? { domain: [0, 1] }
      : column.least === 0 ? { zero: true } : { zero: false, nice: !isVersionNumber, padding: 8 };
    const quantitative = { type: "quantitative", title: title(column), scale, axis: { tickCount: 6 }, ...more };
    if (!isVersionNumber) return quantitative;
    const ticks = order.length <= TICKS ? { values: order } : { tickMinStep: 1 };
    return { ...quantitative, axis: { format: "d", ...ticks, ...more.axis } };
  }

  /** Return the ticks of an axis with one value: the value and its interval, with their digits. */
  function ticksOfOne(rows, name, column, channel) {
    const [value, ...others] = unique(rows, name);
    const { scale } = channel;
    if (channel.type !== "quantitative" || others.length || typeof value !== "number" || scale.domain || scale.zero) return {};
    const [low, high] = [rows[0][`${name}Low`], rows[0][`${name}High`]];
    const isAlone = low === null || high === null || low === high;
    const text = notation.number(value, isAlone ? null : high - low);
    const decimals = text.split("e")[0].split(".")[1]?.length ?? 0;
    return {
      scale: { ...scale, nice: false },
      axis: {
        ...channel.axis, values: [...(isAlone ? [value] : [low, value, high]), ...(column.zero ? [0] : [])],
        format: text.includes("e") ? `.${decimals}~e` : `,.${decimals}f`,
      },
    };
  }

  function colouring(column, rows, theme, symbol = "circle") {
    if (!column) return { value: theme.colours[0] };
    const columnTitle = title(column);
    if (column.type === "number") {
      return { field: "c", type: "quantitative", title: columnTitle, scale: { range: theme.rise } };
    }
    const domain = unique(rows, "c");
    const legend = domain.length > LEGEND_FITS ? null : {
      title: null, labelLimit: 220, symbolType: symbol, symbolStrokeWidth: symbol === "stroke" ? 3 : 0, symbolOpacity: 1,
    };
    return {
      field: "c", type: "nominal", title: columnTitle, legend,
      scale: { domain, range: domain.map((_, place) => theme.colours[place % theme.colours.length]) },
    };
  }

  function config(theme, width) {
    return {
      background: "transparent", font: FONT, padding: 4,
      view: { stroke: null },
      mark: { aria: false }, // the figure has a title and a table; a mark would only name fields
      axis: {
        domainColor: theme.line, gridColor: theme.line, tickColor: theme.line, labelColor: theme.dim,
        titleColor: theme.dim, titleFontWeight: 500, titleFontSize: 12, labelFontSize: 11,
        titlePadding: 8, titleLimit: 280,
        labelLimit: Math.min(150, width * 0.32),
      },
      axisX: { grid: false, labelAngle: 0, labelOverlap: "greedy" },
      axisXDiscrete: { labelAngle: 0, labelLimit: 90, labelOverlap: "greedy" },
      legend: { labelColor: theme.ink, titleColor: theme.dim, orient: "top", labelFontSize: 11,
        columns: Math.max(1, Math.min(6, Math.floor(width / 72))), titleFontWeight: 500,
      },
      header: { labelColor: theme.ink, titleColor: theme.dim, labelFontSize: 12, labelLimit: 200, title: null },
      line: { strokeWidth: 2 }, text: { color: theme.ink },
      boxplot: { median: { color: theme.paper } },
    };
  }

  function rules(chart, rows, x, y, encoding, theme) {
    const layers = [];
    const rule = (low, high, other) => ({
      mark: { type: "rule", strokeWidth: 1.5, opacity: 0.75 },
      transform: [{ filter: { field: low, valid: true } }],
      encoding: {
        [other]: encoding[other], color: chart.kind === "bar" ? { value: theme.ink } : encoding.color,
        [other === "x" ? "y" : "x"]: { ...encoding[other === "x" ? "y" : "x"], field: low },
        [other === "x" ? "y2" : "x2"]: { field: high },
      },
    });
    if (y?.interval && rows.some((row) => row.yLow !== null)) layers.push(rule("yLow", "yHigh", "x"));
    if (x?.interval && rows.some((row) => row.xLow !== null)) layers.push(rule("xLow", "xHigh", "y"));
    return layers;
  }

  function zero(column, channel, theme) {
    if (!column?.zero) return [];
    return [{
      data: { values: [{ at: 0 }] },
      mark: { type: "rule", strokeDash: [4, 4], color: theme.dim },
      encoding: { [channel]: { field: "at", type: "quantitative" } },
    }];
  }

  function diagonal(theme) {
    return {
      data: { values: [{ at: 0 }, { at: 1 }] },
      mark: { type: "line", strokeDash: [4, 4], strokeWidth: 1, color: theme.dim },
      encoding: { x: { field: "at", type: "quantitative" }, y: { field: "at", type: "quantitative" } },
    };
  }

  /** Return whether a line is drawn as dots: a line would join many versions that are not related. */
  const isDots = (chart, source, rows) => chart.kind === "line" && source.id === "versions" && rows.length > MOST_JOINED;

  function markOf(chart, source, rows, binned) {
    if (isDots(chart, source, rows)) return { type: "point", filled: true, size: 24, opacity: 0.9 };
    const points = rows.length > 400 || source.step || source.id === "curves" ? false : { size: 42 };
    const marks = {
      line: { type: "line", interpolate: source.step ? "step" : "linear", point: points },
      bar: { type: "bar", cornerRadiusEnd: 2, ...(binned ? { opacity: 0.55 } : { width: { band: 0.62 } }) },
      scatter: { type: "point", filled: true, size: 80, opacity: 0.9 },
    };
    return marks[chart.kind];
  }

  /** Return a line, bar or scatter chart: one mark, with the intervals of the values. */
  function plain(chart, source, rows, theme) {
    const [x, y, colour] = [at(source, chart.x), at(source, chart.y), at(source, chart.colour)];
    const order = unique(rows, "x");
    const bars = chart.kind === "bar";
    const binned = bars && source.step;
    const discreteX = isDiscrete(x) || (bars && !binned);
    const colourScale = colouring(colour, rows, theme, chart.kind === "line" ? "stroke" : "circle");
    const dots = isDots(chart, source, rows);
    const encoding = {
      x: { field: "x", ...axis(x, discreteX, order) },
      y: { field: "y", ...axis(y, isDiscrete(y), unique(rows, "y")) },
      color: colourScale,
      tooltip: TIP,
    };
    Object.assign(encoding.x, ticksOfOne(rows, "x", x, encoding.x));
    Object.assign(encoding.y, ticksOfOne(rows, "y", y, encoding.y));
    if (isDiscrete(y)) encoding.y.axis = { grid: false, ticks: false };
    const grouped = bars && !binned && colour && colour.type !== "number" && chart.colour !== chart.x;
    if (grouped) encoding.xOffset = { field: "c", sort: null, scale: { domain: unique(rows, "c") } };
    if (bars) encoding.y.scale = { zero: true };
    if (binned) encoding.y.stack = null;
    if (chart.kind === "line" && !dots) encoding.order = { field: "o", type: "quantitative" };
    const bounds = binned ? [] : rules(chart, rows, x, y, encoding, theme).map((rule) => (grouped
      ? { ...rule, encoding: { ...rule.encoding, xOffset: encoding.xOffset } } : rule));
    const marked = [{ mark: markOf(chart, source, rows, binned), encoding }];
    return {
      layer: [
        ...(source.diagonal?.(chart.x, chart.y) ? [diagonal(theme)] : []),
        ...zero(x, "x", theme), ...zero(y, "y", theme),
        ...(bars ? [...marked, ...bounds] : [...bounds, ...marked]),
      ],
    };
  }

  function box(chart, source, rows, theme) {
    const [x, y, colour] = [at(source, chart.x), at(source, chart.y), at(source, chart.colour)];
    return {
      layer: [...zero(y, "y", theme), {
        mark: { type: "boxplot", extent: 1.5, size: 28, outliers: { size: 24 } },
        encoding: {
          x: { field: "x", ...axis(x, true, unique(rows, "x")) },
          y: { field: "y", ...axis(y, false, unique(rows, "y")) },
          color: colouring(colour, rows, theme),
        },
      }],
    };
  }

  function heat(chart, source, rows, theme, { better, width }) {
    const [x, y, colour] = [at(source, chart.x), at(source, chart.y), at(source, chart.colour)];
    const cells = rows.filter((row) => row.c !== null && typeof row.c === "number");
    const most = Math.max(1e-300, ...cells.map((row) => Math.abs(row.c)));
    const good = better ? theme.good.toReversed() : theme.good;
    const scale = colour?.zero
      ? { domain: [-most, 0, most], range: good, interpolate: "rgb" }
      : { range: theme.rise, interpolate: "rgb" };
    const share = colour?.key === "share";
    const axisX = {
      orient: chart.facet ? "bottom" : "top", labelLimit: 90, domain: false, ticks: false, titlePadding: 6,
    };
    const encoding = {
      x: { field: "x", ...axis(x, true, unique(rows, "x"), { axis: axisX }) },
      y: { field: "y", ...axis(y, true, unique(rows, "y"), { axis: { domain: false, ticks: false } }) },
    };
    const tile = { type: "rect", cornerRadius: 2, stroke: theme.paper, strokeWidth: 2 };
    const empty = { transform: [{ filter: { not: { field: "c", valid: true } } }], encoding };
    /** @type {object[]} */
    const layer = [{ ...empty, mark: { ...tile, color: theme.none } }, {
      mark: tile, transform: [{ filter: { field: "c", valid: true } }],
      encoding: {
        ...encoding,
        color: {
          field: "c", type: colour?.type === "number" ? "quantitative" : "nominal", scale,
          title: title(colour), legend: null,
        },
        opacity: { condition: { test: { field: "small", equal: true }, value: 0.45 }, value: 1 },
        tooltip: TIP,
      },
    }];
    const across = unique(rows, "x").length * (chart.facet ? unique(rows, "f").length : 1);
    if (rows.length <= TEXT_FITS && width * 0.65 > across * TEXT_NEEDS) {
      const numbers = cells.map((row) => row.c);
      const middle = share ? 0.35 : (Math.min(...numbers) + Math.max(...numbers)) / 2;
      const test = theme === THEMES.light ? { field: "c", gt: middle } : { field: "c", lt: middle };
      layer.push({
        mark: { type: "text", fontSize: 11 },
        transform: [{ filter: { field: "c", valid: true } }],
        encoding: {
          ...encoding,
          text: { field: "c", type: "quantitative", format: share ? ".0%" : ".3~g" },
          color: colour?.zero ? { value: theme.ink } : {
            condition: { test, value: theme === THEMES.light ? "#ffffff" : theme.ink },
            value: theme === THEMES.light ? theme.ink : "#10131a",
          },
        },
      });
    }
    return { layer, cells: { x: unique(rows, "x").length, y: unique(rows, "y").length } };
  }

  /** Return parallel coordinates: each column has an axis, from its least to its greatest value. */
  function parallel(chart, source, uris, theme) {
    const dimensions = chart.dimensions.map((key) => at(source, key)).filter(Boolean);
    const chartRows = source.rows.filter((row) => uris.includes(row.uri));
    const colour = at(source, chart.colour);
    const names = dimensions.map((column, place) => {
      const name = elements.short(column.name, 22);
      return dimensions.findIndex((other) => elements.short(other.name, 22) === name) === place
        ? safe(name) : `${name} (${place + 1})`;
    });
    const points = [];
    const ends = [];
    dimensions.forEach((column, place) => {
      const known = chartRows.map((row) => column.value(row)).filter((value) => !values.isEmpty(value));
      const discrete = column.type !== "number";
      const ranks = [...new Set(known)].sort((a, b) => values.compare(a, b, 1));
      const [low, high] = discrete ? [0, ranks.length - 1] : [Math.min(...known), Math.max(...known)];
      const height = (value) => {
        const number = discrete ? ranks.indexOf(value) : value;
        return high > low ? (number - low) / (high - low) : 0.5;
      };
      const endText = (value) => (discrete ? elements.short(value, 14) : notation.number(value));
      if (known.length) {
        ends.push({ d: names[place], h: 0, t: endText(discrete ? ranks[0] : low), dy: 14 });
        ends.push({ d: names[place], h: 1, t: endText(discrete ? ranks.at(-1) : high), dy: -8 });
      }
      for (const row of chartRows) {
        const value = column.value(row);
        if (values.isEmpty(value)) continue;
        points.push({
          d: names[place], h: height(value), uri: row.uri, c: safe(colour?.value(row) ?? null), n: place,
          tip: tipOf(row, [column, colour]),
        });
      }
    });
    const x = {
      field: "d", type: "nominal", sort: null, title: null, scale: { padding: 0.4, domain: names },
      axis: { orient: "top", labelLimit: 110, domain: false, ticks: false, offset: 14, labelPadding: 4 },
    };
    const y = { field: "h", type: "quantitative", axis: null, scale: { domain: [0, 1] } };
    return {
      layer: [
        {
          data: { values: ends }, mark: { type: "rule", color: theme.line },
          encoding: { x, y: { datum: 0, type: "quantitative", axis: null }, y2: { datum: 1 } },
        },
        {
          data: { values: points }, mark: { type: "line", strokeWidth: 1.8, opacity: 0.8, point: { size: 36 } },
          encoding: {
            x, y, detail: { field: "uri" }, order: { field: "n", type: "quantitative" },
            color: colouring(colour, chartRows.map((row) => ({ c: safe(colour?.value(row) ?? null) })), theme, "stroke"),
            tooltip: TIP,
          },
        },
        ...[0, 1].map((end) => ({
          data: { values: ends.filter((point) => point.h === end) },
          mark: { type: "text", fontSize: 10, color: theme.dim, dy: end ? -9 : 12 },
          encoding: { x, y, text: { field: "t" } },
        })),
      ],
    };
  }

  const MAKERS = { line: plain, bar: plain, scatter: plain, box, heat };

  /**
   * Return the specification of a chart.
   *
   * @param chart the chart that the reader describes.
   * @param source the source of its data.
   * @param uris the versions that it shows, in order.
   * @param {{ theme: "light" | "dark", width: number, better: boolean }} look `better`: whether more is better.
   */
  function spec(chart, source, uris, look) {
    const theme = THEMES[look.theme];
    const rows = rowsOf(chart, source, uris);
    const base = {
      $schema: "https://vega.github.io/schema/vega-lite/v6.json", config: config(theme, look.width),
      description: elements.short(titleOf(chart, source), 200),
    };
    const fullWidth = { width: look.width, autosize: { type: "fit-x", contains: "padding" } };
    if (chart.kind === "parallel") {
      return { ...base, ...fullWidth, height: HEIGHT, ...parallel(chart, source, uris, theme) };
    }
    const { cells, ...view } = MAKERS[chart.kind](chart, source, rows, theme, look);
    const facets = at(source, chart.facet) ? unique(rows, "f") : [];
    const discreteY = isDiscrete(at(source, chart.y));
    const height = cells
      ? Math.max(2, cells.y) * CELL
      : (discreteY ? Math.max(HEIGHT, unique(rows, "y").length * 24) : HEIGHT);
    if (facets.length < 2) return { ...base, ...fullWidth, height, data: { values: rows }, ...view };
    const across = Math.max(1, Math.min(facets.length, Math.floor(look.width / 210)));
    const width = Math.max(90, Math.floor(look.width / across) - (cells ? 100 : 70));
    return {
      ...base, data: { values: rows }, columns: across, spacing: 24,
      facet: { field: "f", type: "nominal", title: null, sort: { op: "min", field: "n" } },
      spec: { width, height: cells ? height : 170, ...view },
    };
  }

  /** Return why a chart cannot be drawn; null if it can. */
  function trouble(chart, source) {
    if (chart.kind === "parallel") {
      return chart.dimensions.length < 2 ? "Choose two columns or more." : null;
    }
    const [x, y, colour] = [at(source, chart.x), at(source, chart.y), at(source, chart.colour)];
    if (!x || !y) return "Choose an X and a Y axis.";
    if (chart.kind === "heat" && !colour) return "Choose a column for the colour of the heat map.";
    if (["bar", "box"].includes(chart.kind) && y.type !== "number") {
      return "The Y axis of this kind needs numbers.";
    }
    return null;
  }

  return { KINDS, spec, tableOf, titleOf, trouble };
})();
