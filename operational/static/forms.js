// What was typed stays when the language is switched: the page is drawn anew, and filled again.
(() => {
  const KEY = "tollhouse.typed";
  const NOT_KEPT = ["hidden", "password", "file", "submit", "button"];
  const isChoice = (field) => field.type === "radio" || field.type === "checkbox";

  // Every field of the page's forms, under a name that it has in either language.
  function fields() {
    const found = new Map();
    const forms = {};
    for (const form of document.querySelectorAll("main form")) {
      const action = form.getAttribute("action") ?? "";
      forms[action] = (forms[action] ?? 0) + 1;
      for (const field of form.elements) {
        if (!field.name || NOT_KEPT.includes(field.type)) continue;
        const choice = isChoice(field) ? field.value : "";
        found.set([action, forms[action], field.name, choice].join(" "), field);
      }
    }
    return found;
  }

  // A field is filled once: what somebody changes since is his.
  function fill(typed, filled) {
    for (const [name, field] of fields()) {
      if (!(name in typed) || filled.has(field)) continue;
      filled.add(field);
      const property = isChoice(field) ? "checked" : "value";
      if (field[property] === typed[name]) continue;
      field[property] = typed[name];
      const event = field.tagName === "SELECT" ? "change" : "input";
      field.dispatchEvent(new Event(event, { bubbles: true }));
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    const link = document.querySelector("a[data-language]");
    link.addEventListener("click", async (click) => {
      // A form whose rows come and go is drawn anew by being sent: no other page has its rows.
      const redrawn = document.querySelector("main form[data-redrawn]");
      if (redrawn) {
        click.preventDefault();
        await fetch(link.href, { redirect: "manual" });
        const button = Object.assign(document.createElement("input"), { type: "hidden", name: "do" });
        button.value = redrawn.dataset.redrawn;
        redrawn.append(button);
        redrawn.submit();
        return;
      }
      const typed = {};
      for (const [name, field] of fields()) typed[name] = isChoice(field) ? field.checked : field.value;
      const page = new URL(link.href).searchParams.get("after");
      sessionStorage.setItem(KEY, JSON.stringify({ page, typed }));
    });
    const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
    sessionStorage.removeItem(KEY);
    if (kept?.page !== location.pathname + location.search) return;
    const filled = new WeakSet();
    const refill = () => fill(kept.typed, filled);
    // What a choice brings in (free numbers of a province) comes a moment later, and is filled too
    // until somebody chooses anew.
    document.body.addEventListener("htmx:after:settle", refill);
    for (const kind of ["input", "change"]) {
      document.addEventListener(kind, (event) => {
        if (!event.isTrusted || !event.target.matches("[hx-get]")) return;
        document.body.removeEventListener("htmx:after:settle", refill);
      });
    }
    setTimeout(refill, 0); // once everybody listens to changes
  });
})();
