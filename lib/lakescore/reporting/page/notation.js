// How numbers, intervals, sizes, durations and times are written: the module `notation` in JavaScript.
// The table `tests/notation.json` holds the cases that both must give.

const notation = (() => {
  "use strict";

  const NOTHING = "–";
  const DIGITS = 5;
  const DIGITS_OF_WIDTH = 2;
  const DIGITS_OF_SHARE = 3;
  const TINY = 1e-4;
  const HUGE = 1e12;
  const MOST_DECIMALS = 17;
  const MOST_DECIMALS_OF_WIDTH = 7;
  const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];
  const UNIT = 1000;
  const MINUTE = 60;
  /** @type {[unit: number, name: string, part: number, partName: string][]} */
  const STEPS = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];

  const exists = (value) => value !== null && value !== undefined && !Number.isNaN(value);
  const isPlain = (value) => value === 0 || (Math.abs(value) >= TINY && Math.abs(value) < HUGE);
  const exponentOf = (value) => (value === 0 ? 0 : Number(Math.abs(value).toExponential().split("e")[1]));

  /** Return the decimals that show a number of significant digits of a value. */
  const decimalsOf = (value, digits) => Math.min(Math.max(0, digits - 1 - exponentOf(value)), MOST_DECIMALS);

  const trimmed = (text) => (text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text);

  function fixed(value, decimals) {
    const [whole, fraction] = Math.abs(value).toFixed(decimals).split(".");
    const text = whole.replace(/\B(?=(\d{3})+$)/g, ",") + (fraction ? `.${fraction}` : "");
    return value < 0 && /[1-9]/.test(text) ? `-${text}` : text;
  }

  function scientific(value) {
    const [mantissa, exponent] = Math.abs(value).toExponential(3).split("e");
    return `${value < 0 ? "-" : ""}${trimmed(mantissa)}e${Number(exponent)}`;
  }

  const significant = (value, digits) => trimmed(fixed(value, decimalsOf(value, digits)));
  const alone = (value, digits) => (isPlain(value) ? significant(value, digits) : scientific(value));

  /**
   * Return a number with its thousands separated. The width of its interval decides the digits.
   *
   * @param {number | null} [width]
   */
  function number(value, width) {
    if (!exists(value)) return NOTHING;
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
    if (typeof width !== "number" || !Number.isFinite(width) || width <= 0) return alone(value, DIGITS);
    const decimals = decimalsOf(width, DIGITS_OF_WIDTH);
    if (Math.abs(value) >= HUGE || decimals > MOST_DECIMALS_OF_WIDTH) return value === 0 ? "0" : scientific(value);
    const text = fixed(value, decimals);
    return value !== 0 && !/[1-9]/.test(text) ? alone(value, DIGITS_OF_WIDTH) : text;
  }

  const widthOf = (low, high) => (exists(low) && exists(high) ? high - low : null);

  /** Return an interval, such as `0.21 to 0.84`. */
  function bounds(low, high) {
    const width = widthOf(low, high);
    return `${number(low, width)} to ${number(high, width)}`;
  }

  /** Return a value with its interval, such as `0.52 (0.21 to 0.84)`; without one, the value. */
  function interval(value, low, high) {
    const width = widthOf(low, high);
    return width === null ? number(value) : `${number(value, width)} (${bounds(low, high)})`;
  }

  /** Return numbers with enough digits that different numbers have different texts. */
  function apart(...all) {
    let texts = [];
    for (let digits = DIGITS; digits <= MOST_DECIMALS; digits += 1) {
      texts = all.map((value) => (Number.isFinite(value) ? alone(value, digits) : number(value)));
      if (new Set(texts).size === new Set(all).size) break;
    }
    return texts;
  }

  const count = (value) => fixed(value, 0);

  function percent(share) {
    if (!exists(share) || !Number.isFinite(share)) return NOTHING;
    let digits = DIGITS_OF_SHARE;
    const isAll = () => ["100", "-100"].includes(alone(100 * share, digits));
    while (Math.abs(share) !== 1 && isAll() && digits < MOST_DECIMALS) digits += 1; // 99.99 % is not all
    return `${alone(100 * share, digits)} %`;
  }

  function size(bytes) {
    if (!exists(bytes)) return NOTHING;
    if (Math.abs(bytes) < UNIT) return `${bytes} B`;
    let [value, unit] = [bytes, 0];
    while (Math.abs(Number(significant(value, 3).replaceAll(",", ""))) >= UNIT && unit < UNITS.length - 1) {
      [value, unit] = [value / UNIT, unit + 1];
    }
    return `${significant(value, 3)} ${UNITS[unit]}`;
  }

  function duration(seconds) {
    if (!exists(seconds) || !Number.isFinite(seconds)) return NOTHING;
    if (seconds < 0) return `-${duration(-seconds)}`;
    if (seconds < 1) return `${significant(seconds * 1000, 3)} ms`;
    if (seconds < MINUTE - 0.05) return `${trimmed(fixed(seconds, 1))} s`;
    const whole = Number(seconds.toFixed(0));
    const [unit, name, part, partName] = STEPS.find(([least]) => whole >= least) ?? STEPS[2];
    const rest = Math.floor((whole % unit) / part);
    return `${count(Math.floor(whole / unit))} ${name}${rest ? ` ${rest} ${partName}` : ""}`;
  }

  /** Return a time to the minute, in UTC; a time without a zone is written without one. */
  function time(value) {
    if (!exists(value) || value === "") return NOTHING;
    if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(value)) return value;
    if (!/(Z|[+-]\d\d:?\d\d)$/.test(value)) return value.slice(0, 16).replace("T", " ");
    const moment = new Date(value);
    return Number.isNaN(moment.getTime()) ? value : `${moment.toISOString().slice(0, 16).replace("T", " ")} UTC`;
  }

  /** Return a time as the reader's clock shows it, or an empty text if its zone is unknown. */
  function localTime(value) {
    const moment = /(Z|[+-]\d\d:?\d\d)$/.test(value ?? "") ? new Date(value) : null;
    return moment === null || Number.isNaN(moment.getTime()) ? "" : moment.toLocaleString(undefined, {
      year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short",
    });
  }

  return { NOTHING, apart, bounds, count, duration, interval, localTime, number, percent, size, time };
})();
