// Filters that a reader types for a column: "< 40", "30..45", "!= linear", "forest or boosting".

const filters = (() => {
  "use strict";

  const HELP = 'such as < 40, 30..45, = linear, != linear, forest, "black and white", empty; with and, or';
  const RANGE = /^(-?[\d.]+(?:e[+-]?\d+)?)\s*\.\.\s*(-?[\d.]+(?:e[+-]?\d+)?)$/i;
  const COMPARED = /^(<=|>=|!=|<|>|=)\s*(.*)$/s;
  const TESTS = {
    "<": (order) => order < 0,
    "<=": (order) => order <= 0,
    ">": (order) => order > 0,
    ">=": (order) => order >= 0,
    "=": (order) => order === 0,
    "!=": (order) => order !== 0,
  };

  const unquoted = (text) => text.replace(/^(["'])(.*)\1$/s, "$2");

  function compareWith(value, typed) {
    const wanted = Number(typed);
    if (typeof value === "number") {
      return typed.trim() === "" || Number.isNaN(wanted) ? NaN : Math.sign(value - wanted);
    }
    const [text, typedText] = [String(value).toLowerCase(), typed.toLowerCase()];
    return text < typedText ? -1 : Number(text > typedText);
  }

  /** Return the function that tests a value with one condition. */
  function condition(text) {
    const trimmed = text.trim();
    if (/^(!\s*)?empty$/i.test(trimmed)) {
      const wanted = !trimmed.startsWith("!");
      return (value) => values.isEmpty(value) === wanted;
    }
    const range = RANGE.exec(trimmed);
    if (range) {
      const [low, high] = [Number(range[1]), Number(range[2])];
      return (value) => !values.isEmpty(value) && Number(value) >= low && Number(value) <= high;
    }
    const compared = COMPARED.exec(trimmed);
    if (compared) {
      const [, sign, wanted] = compared;
      const known = TESTS[sign];
      return (value) => values.isEmpty(value) ? sign === "!=" : known(compareWith(value, unquoted(wanted)));
    }
    const part = unquoted(trimmed).toLowerCase();
    return (value) => !values.isEmpty(value) && String(value).toLowerCase().includes(part);
  }

  /** Return the parts of a text that a word joins, except in quotes. */
  function parts(text, word) {
    const pieces = [""];
    for (const [token] of text.matchAll(/(?<!\w)"[^"]*"|(?<!\w)'[^']*'|\s+(?:and|or)\s+|[^]/gi)) {
      if (/^\s/.test(token) && token.trim().toLowerCase() === word) pieces.push("");
      else pieces[pieces.length - 1] += token;
    }
    return pieces;
  }

  /** Return the function that tests a value with an expression; if it is empty, all values pass. */
  function parse(text) {
    if (text.trim() === "") return () => true;
    const alternatives = parts(text, "or").map((alternative) => parts(alternative, "and").map(condition));
    return (value) => alternatives.some((alternative) => alternative.every((test) => test(value)));
  }

  /** Return the rows that pass all filters and contain every word of the search. */
  function matching(rows, columns, typedFilters, search) {
    const byKey = new Map(columns.map((column) => [column.key, column]));
    const tests = typedFilters
      .filter(([key]) => byKey.has(key))
      .map(([key, text]) => [byKey.get(key), parse(text)]);
    const words = search.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (row) => columns
      .map((column) => `${column.label?.(row) ?? ""} ${column.value(row) ?? ""}`)
      .join("\n").toLowerCase();
    return rows.filter((row) => {
      if (!tests.every(([column, test]) => test(column.value(row)))) return false;
      if (words.length === 0) return true;
      const all = text(row);
      return words.every((word) => all.includes(word));
    });
  }

  return { HELP, matching, parse };
})();
