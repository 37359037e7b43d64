// Scripts of one page share one scope: each defines a name that later ones use.
const js = require("@eslint/js");
const globals = require("globals");

module.exports = [
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: 2022, sourceType: "script", globals: globals.browser },
    rules: {
      "no-undef": "off", // TypeScript's checker knows what other scripts define
      "no-unused-vars": ["error", { vars: "local", argsIgnorePattern: "^_" }],
      "no-var": "error",
      "prefer-const": "error",
      eqeqeq: ["error", "always", { null: "ignore" }],
      complexity: ["error", 25], // each `?.`, `??` and `?:` counts, so plain lists of choices reach 15
      "max-len": ["error", { code: 130, ignoreUrls: true }],
    },
  },
];
