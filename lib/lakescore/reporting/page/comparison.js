// The comparison pane: charts of the selected versions. The reader adds, changes and removes them.

const comparison = (() => {
  "use strict";

  const { button, checkbox, make, select } = elements;
  const NARROWEST = 240;
  const CHIPS = 24;
  const GAP = 16;
  const ERRORS = 1; // a log level of Vega, which warns about boxes without outliers

  let document_;
  let chartSources;
  let presets;
  let place;
  let cards = [];
  let observer;
  let fitting;
  let tip;

  const better = () => document_.problem?.greater_is_better === true;

  function urisOf(chart) {
    const uris = chart.of === "listed" ? list.listed().map((version) => version.uri) : state.get().selected;
    return chart.source === "versions" && chart.of === "listed"
      ? document_.versions.filter((version) => uris.includes(version.uri)).map((version) => version.uri)
      : uris;
  }

  const changeChart = (index, changes) => state.change({
    charts: state.get().charts.map((chart, at) => (at === index ? { ...chart, ...changes } : chart)),
  });

  const titleOf = (chart) => charts.titleOf(chart, chartSources.get(chart.source));

  /** Show the tooltip of a mark beside the pointer; names are text nodes, as everywhere. */
  function showTip(_, event, __, datum) {
    tip ??= document.body.appendChild(make("div", { class: "tip", "aria-hidden": "true" }));
    tip.hidden = !datum?.lines;
    if (tip.hidden) return;
    tip.replaceChildren(make("dl", {}, datum.lines.flatMap(([name, text]) => [
      make("dt", { dir: "auto" }, name), make("dd", { dir: "auto" }, text),
    ])));
    const [x, y] = [event.clientX + 14, event.clientY + 14];
    tip.style.left = `${Math.max(4, Math.min(x, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${y + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : y}px`;
  }

  /** Draw the chart of a card with Vega, or show why it cannot be drawn. */
  async function draw(card) {
    const { chart, box } = card;
    const source = chartSources.get(chart.source);
    const uris = urisOf(chart);
    const trouble = uris.length === 0 ? "Select versions in the list." : charts.trouble(chart, source);
    card.finish?.();
    card.finish = card.view = null;
    if (trouble) {
      box.replaceChildren(make("p", { class: "dim" }, trouble));
      return;
    }
    const width = Math.max(NARROWEST, box.clientWidth - 4);
    card.width = box.clientWidth;
    const target = make("div", { class: "vega" });
    const appearance = { theme: theme.shown(), width, better: better() };
    const turn = (card.turn = (card.turn ?? 0) + 1);
    try {
      const embedded = await vegaEmbed(target, charts.spec(chart, source, uris, appearance), {
        actions: false, ast: true, renderer: "svg", tooltip: showTip, logLevel: ERRORS,
      });
      if (turn !== card.turn) {
        embedded.finalize();
        return;
      }
      box.replaceChildren(target);
      [card.view, card.finish] = [embedded.view, embedded.finalize];
      card.node.dataset.drawn = "yes";
    } catch (error) {
      box.replaceChildren(make("p", { class: "bad" }, `This chart cannot be drawn: ${error.message}`));
    }
  }

  /** Follow the size of a card: it is drawn anew, and its place in the grid ends where it ends. */
  function watch(card) {
    observer.observe(card.node);
    fitting.observe(card.node);
  }

  const fit = (node) => { node.style.gridRowEnd = `span ${Math.ceil(node.offsetHeight + GAP)}`; };

  async function withView(card, act) {
    if (!card.view) await draw(card);
    if (card.view) await act(card.view);
  }

  function saveButtons(card) {
    const name = () => titleOf(card.chart);
    const png = () => withView(card, async (view) => downloads.saveCanvas(name(), await view.toCanvas(2)));
    const svg = () => withView(card, async (view) =>
      downloads.saveText(name(), "svg", await view.toSVG(), "image/svg+xml"));
    const csv = () => downloads.saveCsv(name(), ...charts.tableOf(
      card.chart, chartSources.get(card.chart.source), urisOf(card.chart)));
    const attributes = (format) => ({ class: "quiet", "aria-label": `download ${elements.short(name(), 60)} as ${format}` });
    return [button("PNG", png, attributes("PNG")), button("SVG", svg, attributes("SVG")), button("CSV", csv, attributes("CSV"))];
  }

  function columnOptions(source, fits, none) {
    const options = source.columns.filter(fits)
      .map((column) => ({ value: column.key, label: column.name, group: column.group }));
    return none ? [{ value: "", label: none }, ...options] : options;
  }

  /** Return a chart of another source, with axes that this source has and without a title. */
  function chartOfSource(source) {
    const preset = presets.find((chart) => chart.source === source.id);
    const [x, y] = [source.columns[0].key, source.columns.at(-1).key];
    return { kind: "line", x, y, colour: "", facet: "", dimensions: [], ...preset, source: source.id, title: "" };
  }

  function editor(card, index) {
    const { chart } = card;
    const source = chartSources.get(chart.source);
    const any = () => true;
    const change = (changes) => changeChart(index, changes);
    const title = make("input", {
      type: "text", value: chart.title ?? "", placeholder: titleOf({ ...chart, title: "" }), dir: "auto",
      input: elements.settled(() => change({ title: title.value }), 250),
    });
    const field = (label, key, none) => select(label, columnOptions(source, any, none), chart[key],
      (value) => change({ [key]: value, title: "" }));
    const dimensions = make("fieldset", { class: "dimensions" }, make("legend", {}, "Axes"),
      make("div", { class: "boxes" }, source.columns.map((column) => checkbox(
        elements.short(column.name, 60), chart.dimensions.includes(column.key),
        (on) => change({
          dimensions: on ? [...chart.dimensions, column.key] : chart.dimensions.filter((key) => key !== column.key),
        })))));
    return make("form", { class: "editor", submit: (event) => event.preventDefault() },
      make("label", { class: "field wide" }, make("span", {}, "Title"), title),
      select("Shows", [...chartSources.values()].map((shown) => ({ value: shown.id, label: shown.name })), chart.source,
        (value) => change(chartOfSource(chartSources.get(value)))),
      select("Kind", charts.KINDS.map(([value, label]) => ({ value, label })), chart.kind,
        (value) => change({ kind: value })),
      ...(chart.kind === "parallel" ? [dimensions] : [field("X axis", "x"), field("Y axis", "y")]),
      field("Colour", "colour", "none"),
      ...(chart.kind === "parallel" ? [] : [field("Split by", "facet", "nothing")]),
      select("Versions", [{ value: "selected", label: "selected" }, { value: "listed", label: "all in the list" }],
        chart.of, (value) => change({ of: value })));
  }

  /** Return a card: a chart with its title and the reader's buttons. */
  function makeCard(chart, index, open) {
    const box = make("div", { class: "chart" });
    const card = { chart, box };
    const form = make("div", { class: "form" });
    const edit = button("Edit", () => {
      const shut = form.childElementCount === 0;
      form.replaceChildren(...(shut ? [editor(card, index)] : []));
      edit.setAttribute("aria-expanded", String(shut));
    }, { class: "quiet", "aria-expanded": "false", "aria-label": `edit ${elements.short(titleOf(chart), 60)}` });
    const remove = button("Remove", () => state.change({
      charts: state.get().charts.filter((_, at) => at !== index),
    }), { class: "quiet", "aria-label": `remove ${elements.short(titleOf(chart), 60)}` });
    card.title = make("figcaption", { dir: "auto", title: titleOf(chart) }, titleOf(chart));
    card.node = make("figure", { class: "card" },
      make("header", {}, card.title, make("div", { class: "actions" }, edit, ...saveButtons(card), remove)),
      form, box);
    card.form = form;
    if (open) edit.click();
    return card;
  }

  function chips() {
    const names = values.labels(document_.versions);
    const { selected } = state.get();
    const drop = (uri) => state.change({ selected: state.get().selected.filter((other) => other !== uri) });
    const shown = selected.slice(0, CHIPS).map((uri) => button(
      `${elements.short(names.get(uri), 30)} ×`, () => drop(uri),
      { class: "chip", "aria-label": `leave ${elements.short(names.get(uri), 60)} out of the comparison` },
    ));
    const more = selected.length > CHIPS ? [make("span", { class: "dim" }, `and ${selected.length - CHIPS} more`)] : [];
    return make("div", { class: "chips" }, make("span", { class: "dim" }, selected.length
      ? `Comparing ${selected.length} of ${document_.versions.length}:` : "No version is selected: tick versions in the list."),
    ...shown, ...more,
    selected.length ? button("Clear", () => state.change({ selected: [] }), { class: "quiet" }) : null);
  }

  function adder() {
    const options = [{ value: "", label: "Add a chart…" },
      ...presets.map((chart, at) => ({ value: String(at), label: charts.titleOf(chart, chartSources.get(chart.source)) })),
      { value: "new", label: "A chart of your own" }];
    return select("Charts", options, "", (value) => {
      if (value === "") return;
      const newChart = { source: "versions", kind: "scatter", ...chartOfSource(chartSources.get("versions")) };
      const chart = { of: "selected", ...(value === "new" ? newChart : presets[Number(value)]) };
      state.change({ charts: [...state.get().charts, chart] });
      const last = cards.at(-1);
      if (value === "new") last.node.querySelector("button").click();
      last.node.scrollIntoView({ block: "nearest" });
    });
  }

  /** Draw cards one after the other, so that the page reacts meanwhile. */
  async function drawAll(cardsToDraw) {
    for (const card of cardsToDraw) {
      await new Promise((done) => setTimeout(done, 0));
      if (cards.includes(card)) await draw(card);
    }
    if (cards.every((card) => card.node.dataset.drawn || !card.view)) place.dataset.ready = "yes";
  }

  /** Update the cards from the state; cards whose chart did not change stay. */
  function update(changed) {
    const wanted = state.get().charts;
    const redrawn = [];
    const before = cards;
    place.dataset.ready = "";
    cards = wanted.map((chart, index) => {
      const old = before[index];
      if (old && before.length === wanted.length) {
        const same = JSON.stringify(old.chart) === JSON.stringify(chart);
        if (same) return old;
        const titled = JSON.stringify({ ...old.chart, title: "" }) === JSON.stringify({ ...chart, title: "" });
        const typing = titled && old.form.contains(document.activeElement);
        if (typing) {
          old.chart = chart;
          old.title.textContent = titleOf(chart);
          redrawn.push(old);
          return old;
        }
        const focused = old.form.contains(document.activeElement)
          ? [...old.form.querySelectorAll("select, input")].indexOf(document.activeElement) : -1;
        const card = makeCard(chart, index, old.form.childElementCount > 0);
        old.finish?.();
        old.node.replaceWith(card.node);
        if (focused >= 0) card.form.querySelectorAll("select, input")[focused]?.focus();
        redrawn.push(card);
        watch(card);
        return card;
      }
      const card = makeCard(chart, index, false);
      redrawn.push(card);
      return card;
    });
    if (before.length !== cards.length || before.length === 0) {
      for (const card of before) card.finish?.();
      place.querySelector(".cards").replaceChildren(...cards.map((card) => card.node));
      cards.forEach(watch);
    }
    place.querySelector(".chips").replaceWith(chips());
    const all = ["selected", "theme"].some((key) => changed.has(key)) || changed.size === 0;
    const listed = ["filters", "search"].some((key) => changed.has(key));
    const touched = cards.filter((card) => all || redrawn.includes(card) || (listed && card.chart.of === "listed"));
    return drawAll(touched);
  }

  /** Make the pane in `node`; `newPresets` are the charts that the reader can add. */
  function begin(node, newDocument, newSources, newPresets) {
    [place, document_, chartSources, presets] = [node, newDocument, newSources, newPresets];
    place.append(make("div", { class: "chips" }), make("div", { class: "cards" }),
      make("div", { class: "tools" }, adder()));
    fitting = new ResizeObserver((entries) => entries.forEach(({ target }) => fit(target)));
    observer = new ResizeObserver(elements.settled(() => drawAll(
      cards.filter((card) => card.view && Math.abs(card.box.clientWidth - card.width) > 8),
    ), 150));
    state.listen((_, changed) => {
      if (["columns", "sort", "different", "facts"].some((key) => changed.size === 1 && changed.has(key))) return;
      update(changed);
    });
    update(new Set());
  }

  return { begin };
})();
