// A dialog with all facts about one version.

const details = (() => {
  "use strict";

  const { button, make } = elements;
  const FACTS = [
    "reference", "status", "description", "created_at", "updated_at", "aliases", "run_name", "run_id",
    "logged_model_id", "source", "flavours", "formats", "mlflow_version", "python_version", "size",
    "digest", "segment_by",
  ];

  function pairs(title, entries) {
    if (entries.length === 0) return null;
    return make("section", {}, make("h3", {}, title), make("dl", {}, entries.flatMap(([key, value]) => [
      make("dt", { dir: "auto" }, elements.short(key, 200)),
      make("dd", { dir: "auto" }, value instanceof Node ? value : String(value)),
    ])));
  }

  /** Return the signature as rows of part, name and type. */
  function signatureRows(signature) {
    return Object.entries(signature ?? {}).flatMap(([part, columns]) => (columns ?? []).map(
      (column, place) => [part, column.name ?? `#${place + 1}`, facts.typeOf(column)],
    ));
  }

  /** Open the dialog of a version, and send `lakescore:details` to the page's other scripts. */
  function open(version) {
    const properties = FACTS.map((key) => [key.replaceAll("_", " "), facts.textOf(key, version[key])])
      .filter(([, value]) => !values.isEmpty(value));
    const metrics = Object.entries(version.metrics ?? {})
      .map(([name, value]) => [name, notation.number(value)]);
    const signature = signatureRows(version.signature);
    const files = (version.files ?? []).map((file) => [file.path, notation.size(file.size)]);
    const segments = (version.segments ?? []).map((segment) => [
      segment.segment ?? "(null)", segment.uri === null ? "no model" : values.short(segment.uri), notation.number(segment.rows),
    ]);
    const body = make("div", { class: "body" },
      pairs("Properties", properties), pairs("Tags", Object.entries(version.tags ?? {})),
      pairs("Hyperparameters", Object.entries(version.params ?? {})),
      pairs("Metrics as stored", metrics),
      segments.length ? make("section", {}, make("h3", {}, "Segments"),
        elements.table(["segment", "version", "rows"], segments, { label: "segments" })) : null,
      signature.length ? make("section", {}, make("h3", {}, "Signature"),
        elements.table(["part", "name", "type"], signature, { label: "signature" })) : null,
      pairs("Files", files));
    const dialog = make("dialog", { class: "details", "aria-labelledby": "details-title" },
      make("header", {}, make("h2", { id: "details-title", dir: "auto" }, elements.short(values.short(version.uri), 120)),
        button("Close", () => dialog.close())),
      body);
    dialog.addEventListener("close", () => dialog.remove());
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
    });
    document.body.append(dialog);
    dialog.showModal();
    dispatchEvent(new CustomEvent("lakescore:details", { detail: { version, dialog, body } }));
  }

  return { open };
})();
