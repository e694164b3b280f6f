"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  // Colours: as the system has them, light, or dark. A browser that keeps nothing for files forgets the choice.
  const themes = { "": "as the system has them", light: "light", dark: "dark" };
  const kept = {
    read() { try { return localStorage.getItem("theme") || ""; } catch { return ""; } },
    write(theme) { try { localStorage.setItem("theme", theme); } catch { /* not kept */ } },
  };
  const wear = (theme) => {
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
    document.getElementById("theme")?.setAttribute("aria-label", `Colours: ${themes[theme]}`);
  };
  const known = (theme) => (Object.hasOwn(themes, theme) ? theme : "");
  wear(known(kept.read()));

  const make = (name, more = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(more)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const many = (count, thing) => `${count.toLocaleString("en")} ${thing}${count === 1 ? "" : "s"}`;

  function begin() {
    wear(known(kept.read()));
    document.getElementById("theme").addEventListener("click", () => {
      const order = Object.keys(themes);
      const next = order[(order.indexOf(root.dataset.theme || "") + 1) % order.length];
      kept.write(next);
      wear(next);
    });
    document.querySelectorAll("table.sortable").forEach(sortable);
    filterable(document.getElementById("controls"));
    pickable(document.getElementById("picker"));
  }

  // -- Sorting: a button in every head of a column. Numbers begin with the largest; the third press gives the first order back.

  function sortable(table) {
    const body = table.tBodies[0];
    const first = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, place) => {
      const button = make("button", { type: "button" }, ...head.childNodes);
      head.append(button);
      const numeric = head.dataset.kind === "number";
      const turns = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
      button.addEventListener("click", () => {
        const next = turns[turns.indexOf(head.getAttribute("aria-sort")) + 1];
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (next) head.setAttribute("aria-sort", next);
        body.append(...(next ? sorted(first, place, numeric, next === "ascending" ? 1 : -1) : first));
      });
    });
  }

  function sorted(rows, place, numeric, turn) {
    const key = (row) => (numeric ? row.cells[place].dataset.value : row.cells[place].textContent);
    const compare = (one, two) => (numeric ? one - two : one.localeCompare(two, "en", { numeric: true }));
    return [...rows].sort((one, two) => {
      const [a, b] = [key(one), key(two)];
      if (!a || !b) return (a ? 0 : 1) - (b ? 0 : 1); // what has no value stands last
      return turn * compare(a, b);
    });
  }

  // -- The score tables: one of two scales, and the rows that fit.

  function filterable(form) {
    const regions = [...document.querySelectorAll(".score-table")];
    const status = document.getElementById("shown");
    const apply = () => {
      const asked = Object.fromEntries(new FormData(form));
      const text = asked.text.trim().toLowerCase();
      for (const region of regions) {
        const chosen = region.dataset.scale === asked.scale;
        region.classList.toggle("chosen", chosen);
        region.classList.toggle("with-numbers", Boolean(asked.numbers));
        const rows = [...region.querySelectorAll("tbody tr")];
        for (const row of rows) {
          row.hidden = !((!asked.kind || row.dataset.kind === asked.kind)
            && (!asked.protocol || row.dataset.protocol === asked.protocol)
            && row.dataset.model.toLowerCase().includes(text));
        }
        const left = rows.filter((row) => !row.hidden).length;
        region.querySelector(".nothing").hidden = left > 0;
        if (chosen) status.textContent = `${left} of ${many(rows.length, "model")} shown, ${asked.scale} scores`;
      }
    };
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.reset(); // a browser may keep what was chosen before a reload, and not what it did
    apply();
    status.textContent = "";
  }

  // -- Examples of a task and a model.

  const SHORT = 360;

  function pickable(form) {
    const data = JSON.parse(document.getElementById("data").textContent);
    const cards = document.getElementById("cards");
    document.querySelectorAll("#cards dd").forEach(shorten);
    const show = () => {
      const asked = Object.fromEntries(new FormData(form));
      const task = data[asked.task];
      const own = task.models[asked.model];
      const [good, bad] = task.byDegrees ? ["near", "far"] : ["right", "wrong"];
      document.getElementById("good-word").textContent = good;
      document.getElementById("bad-word").textContent = bad;
      const said = own.right === null
        ? `: the nearest and the farthest of ${many(own.of, "row")} drawn.`
        : `: ${own.right.toLocaleString("en")} of ${many(own.of, "row")} right.`;
      document.getElementById("about").replaceChildren(
        make("b", {}, asked.model), " on ", make("b", {}, asked.task), said);
      const sides = { good: [own.good, good], bad: [own.bad, bad] };
      cards.replaceChildren(...Object.entries(sides)
        .filter(([side]) => asked.rows === "both" || asked.rows === side)
        .flatMap(([side, [examples, word]]) => examples.map((one) => card(task.rows[one.row], one, side, word))));
      if (!cards.children.length) cards.append(make("p", { class: "note" }, "There are none."));
      cards.querySelectorAll("dd").forEach(shorten);
    };
    form.addEventListener("input", (event) => {
      if (event.target.name === "task") models(form, data[event.target.value].models);
      show();
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.reset();
    document.getElementById("cards").dataset.ready = "yes";
  }

  function models(form, there) {
    const before = form.model.value;
    form.model.replaceChildren(...Object.keys(there).map((name) => make("option", {}, name)));
    if (Object.hasOwn(there, before)) form.model.value = before;
  }

  function card(row, example, side, word) {
    const term = (name, text, kind = "") => make("div", {}, make("dt", {}, name), make("dd", { class: kind }, text));
    const found = make("article", { class: `example ${side}` },
      make("p", { class: "verdict" },
        make("span", { class: "mark" }, word), " ", make("span", { class: "place" }, `test row ${example.row}`)),
      make("dl", { class: "inputs" }, ...row.inputs.map((one) => term(one.name, one.text))),
      make("dl", { class: "answers" }, term("answer", example.output, "answer"), term("reference", row.reference)));
    if (example.weights) {
      found.append(make("div", { class: "weights" }, make("p", {}, "routing weights"),
        make("ul", {}, ...example.weights.map(([name, weight]) => make("li", {},
          make("span", {}, name), bar(weight), make("span", { class: "number" }, `${(100 * weight).toFixed(1)} %`))))));
    }
    return found;
  }

  function bar(share) {
    const draw = (name, more) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(more)) element.setAttribute(key, value);
      return element;
    };
    const found = draw("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
    found.append(draw("rect", { class: "rest", width: 100, height: 8 }), draw("rect", { class: "weight", width: 100 * share, height: 8 }));
    return found;
  }

  // A long text is cut, with a button that shows the rest.
  function shorten(element) {
    const whole = element.textContent;
    if (whole.length <= SHORT * 1.2) return;
    const text = document.createTextNode("");
    const button = make("button", { type: "button", "aria-expanded": "false" });
    const set = (open) => {
      text.data = open ? whole : `${whole.slice(0, SHORT)} …`;
      button.textContent = open ? "Show less" : "Show all";
      button.setAttribute("aria-expanded", String(open));
    };
    button.addEventListener("click", () => set(button.getAttribute("aria-expanded") === "false"));
    element.replaceChildren(text, button);
    set(false);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin); else begin();
})();
