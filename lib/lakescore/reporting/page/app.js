// Reads the document and starts the parts of the page.

const app = (() => {
  "use strict";

  const MOST_AT_FIRST = 6;
  const THEMES = ["auto", "light", "dark"];

  const texts = (value) => Array.isArray(value) && value.every((text) => typeof text === "string");
  const pairs = (value) => Array.isArray(value)
    && value.every((pair) => texts(pair) && pair.length === 2);

  /** Return the check of choices from the address: it keeps only names that the document has. */
  function checker(document_, columns, chartSources) {
    const keys = new Set(columns.map((column) => column.key));
    const uris = new Set(document_.versions.map((version) => version.uri));
    const kinds = new Set(charts.KINDS.map(([kind]) => kind));
    const chart = (wanted) => {
      const source = chartSources.get(wanted?.source);
      if (!source || !kinds.has(wanted.kind)) return null;
      const known = (key) => (source.columns.some((column) => column.key === key) ? key : "");
      return {
        source: source.id, kind: wanted.kind, of: wanted.of === "listed" ? "listed" : "selected",
        x: known(wanted.x), y: known(wanted.y), colour: known(wanted.colour), facet: known(wanted.facet),
        dimensions: texts(wanted.dimensions) ? wanted.dimensions.filter(known) : [],
        title: typeof wanted.title === "string" ? wanted.title : "",
      };
    };
    const checks = {
      columns: (value) => (texts(value) ? value.filter((key) => keys.has(key)) : null),
      sort: (value) => (pairs(value) ? value.filter(([key, way]) => keys.has(key) && ["asc", "desc"].includes(way)) : null),
      filters: (value) => (pairs(value) ? value.filter(([key]) => keys.has(key)) : null),
      search: (value) => (typeof value === "string" ? value : null),
      different: (value) => (typeof value === "boolean" ? value : null),
      selected: (value) => (texts(value) ? value.filter((uri) => uris.has(uri)) : null),
      charts: (value) => (Array.isArray(value) ? value.map(chart).filter(Boolean) : null),
      theme: (value) => (THEMES.includes(value) ? value : null),
      facts: (value) => (value && typeof value === "object"
        ? { different: value.different !== false, scope: String(value.scope ?? "") } : null),
    };
    return (choices) => Object.fromEntries(Object.entries(checks)
      .map(([key, check]) => [key, Object.hasOwn(choices, key) ? check(choices[key]) : null])
      .filter(([, value]) => value !== null));
  }

  function defaults(document_, columns, presets) {
    return {
      columns: values.firstColumns(document_, columns, folding.isNarrow()), sort: [], filters: [], search: "",
      different: false, selected: values.firstVersions(document_, MOST_AT_FIRST),
      charts: presets.filter((chart) => chart.kind !== "box"), theme: "auto", facts: { different: true, scope: "" },
    };
  }

  function copyable(block) {
    block.append(sharing.copyButton("Copy", () => block.querySelector("code").textContent, { class: "quiet copy" }));
  }

  /** Make the buttons of the parts work: the address holds choices, so it cannot name a part. */
  function navigate() {
    /** @type {NodeListOf<HTMLElement>} */
    const links = document.querySelectorAll("[data-to]");
    for (const link of links) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        const part = elements.get(`#${link.dataset.to}`);
        folding.open(part);
        part.scrollIntoView();
        part.focus({ preventScroll: true });
      });
    }
  }

  function offerDocument(text) {
    elements.get("#save-document").addEventListener("click", () =>
      downloads.saveText("report", "json", text, "application/json"));
  }

  function start() {
    const text = elements.get("#report").textContent;
    const document_ = JSON.parse(text);
    navigate();
    /** @type {NodeListOf<HTMLTimeElement>} */
    const times = document.querySelectorAll("time[datetime]");
    for (const place of times) place.title = notation.localTime(place.dateTime);
    offerDocument(text);
    const columns = values.columns(document_);
    const chartSources = sources.of(document_, columns);
    const presets = sources.presets(document_, chartSources, columns);
    state.begin(defaults(document_, columns, presets), checker(document_, columns, chartSources));
    theme.begin(document.getElementById("theme"));
    list.begin(document.querySelector("#versions .content"), document_, columns);
    facts.begin(document_);
    comparison.begin(document.querySelector("#comparison .content"), document_, chartSources, presets);
    document.querySelectorAll(".command").forEach(copyable);
    folding.begin();
    sharing.begin();
    performance.mark("lakescore:started");
    dispatchEvent(new CustomEvent("lakescore:started", { detail: { document: document_ } }));
  }

  return { start };
})();
