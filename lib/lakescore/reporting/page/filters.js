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

  function ordered(value, asked) {
    const wanted = Number(asked);
    if (typeof value === "number") {
      return asked.trim() === "" || Number.isNaN(wanted) ? NaN : Math.sign(value - wanted);
    }
    const [mine, theirs] = [String(value).toLowerCase(), asked.toLowerCase()];
    return mine < theirs ? -1 : Number(mine > theirs);
  }

  /** Return the test of one condition, of a value. */
  function condition(text) {
    const asked = text.trim();
    if (/^(!\s*)?empty$/i.test(asked)) {
      const wanted = !asked.startsWith("!");
      return (value) => values.isEmpty(value) === wanted;
    }
    const range = RANGE.exec(asked);
    if (range) {
      const [low, high] = [Number(range[1]), Number(range[2])];
      return (value) => !values.isEmpty(value) && Number(value) >= low && Number(value) <= high;
    }
    const compared = COMPARED.exec(asked);
    if (compared) {
      const [, sign, wanted] = compared;
      const known = TESTS[sign];
      return (value) => values.isEmpty(value) ? sign === "!=" : known(ordered(value, unquoted(wanted)));
    }
    const part = unquoted(asked).toLowerCase();
    return (value) => !values.isEmpty(value) && String(value).toLowerCase().includes(part);
  }

  /** Return the parts of a text that a word joins; in quotes it is no such word. */
  function parts(text, word) {
    const found = [""];
    for (const [token] of text.matchAll(/(?<!\w)"[^"]*"|(?<!\w)'[^']*'|\s+(?:and|or)\s+|[^]/gi)) {
      if (/^\s/.test(token) && token.trim().toLowerCase() === word) found.push("");
      else found[found.length - 1] += token;
    }
    return found;
  }

  /** Return the test that an expression makes; an empty one lets everything pass. */
  function parse(text) {
    if (text.trim() === "") return () => true;
    const either = parts(text, "or").map((all) => parts(all, "and").map(condition));
    return (value) => either.some((all) => all.every((test) => test(value)));
  }

  /** Return the rows that pass all filters and hold every word of the search. */
  function matching(rows, columns, asked, search) {
    const known = new Map(columns.map((column) => [column.key, column]));
    const tests = asked
      .filter(([key]) => known.has(key))
      .map(([key, text]) => [known.get(key), parse(text)]);
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
