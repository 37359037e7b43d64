// Files that the reader downloads.

const downloads = (() => {
  "use strict";

  /** Return a CSV cell that a spreadsheet does not read as a formula (a text after `=`, `+`, `-` or `@`). */
  function cell(value) {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return String(value);
    const text = String(value);
    // eslint-disable-next-line no-control-regex -- a spreadsheet may skip control characters too
    const safe = /^[\s\u0000-\u001f]*[=+\-@\uff1d\uff0b\uff0d\uff20]|^[\t\r\n]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  /** Return rows as CSV (RFC 4180). */
  function csv(heads, rows) {
    return [heads, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
  }

  /** Return a file name that is valid on every system. */
  function fileName(title, extension) {
    const name = title.replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[-.]+|[-.]+$/g, "");
    return `${[...name].slice(0, 60).join("") || "lakescore"}.${extension}`;
  }

  function save(name, content) {
    const url = URL.createObjectURL(content);
    const link = elements.make("a", { href: url, download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  /** Save a table as CSV; the mark at its beginning shows spreadsheets that it is UTF-8. */
  function saveCsv(title, heads, rows) {
    const text = `\ufeff${csv(heads, rows)}`;
    save(fileName(title, "csv"), new Blob([text], { type: "text/csv;charset=utf-8" }));
  }

  function saveText(title, extension, text, type) {
    save(fileName(title, extension), new Blob([text], { type }));
  }

  function saveCanvas(title, canvas) {
    canvas.toBlob((blob) => save(fileName(title, "png"), blob), "image/png");
  }

  return { cell, csv, fileName, saveCanvas, saveCsv, saveText };
})();
