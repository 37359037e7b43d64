// The key to this server, and how it is asked.
//
// The key comes after the # of the first address, which no server and no log sees. It is kept where
// only pages of this very address and port can read it, and is taken out of the address at once.

const session = (() => {
  "use strict";

  const KEPT = "lakescore.token";
  const GIVEN = /^#token=([\w-]+)$/;

  function take() {
    const given = GIVEN.exec(location.hash);
    if (!given) return;
    localStorage.setItem(KEPT, given[1]);
    history.replaceState(null, "", location.pathname);
  }

  /** Return the path of the API for parts that may hold anything. */
  function path(...parts) {
    return `/api/${parts.map((part) => encodeURIComponent(part)).join("/")}`;
  }

  async function reason(answer) {
    try {
      const { kind, message } = (await answer.json()).error;
      return { kind, message };
    } catch {
      return { kind: "Unreadable", message: `the server answered with ${answer.status}` };
    }
  }

  /** Ask the API; an answer that is a refusal is thrown, with its `kind`, `message` and `status`. */
  async function ask(method, to, facts) {
    const headers = { authorization: `Bearer ${localStorage.getItem(KEPT) ?? ""}` };
    if (facts !== undefined) headers["content-type"] = "application/json";
    /** @type {RequestInit} */
    const asked = {
      method, headers, body: facts === undefined ? undefined : JSON.stringify(facts),
      cache: "no-store", credentials: "omit", redirect: "error",
    };
    let answer;
    try {
      answer = await fetch(to, asked);
    } catch {
      throw new Error("the server does not answer; is lakescore serve still running?");
    }
    if (!answer.ok) {
      const { kind, message } = await reason(answer);
      throw Object.assign(new Error(message), { kind, status: answer.status });
    }
    return answer.headers.get("content-type")?.includes("json") ? answer.json() : answer.text();
  }

  take();
  return { ask, path };
})();
