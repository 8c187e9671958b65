(() => {
  "use strict";
  // Tables sort by their column heads. Without this script they stand as they are.
  const value = (cell) => {
    const text = cell ? cell.textContent.trim() : "";
    const plain = text.replace(/[\u2009\u202f\s]/g, "").replace(/\u2212/g, "-");
    const number = /^[-+]?[0-9.]/.test(plain) ? parseFloat(plain) : NaN;
    return { text, number };
  };
  for (const table of document.querySelectorAll("table.sort")) {
    const body = table.tBodies[0];
    if (!table.tHead || !body || body.rows.length < 2) continue;
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = Array.from(body.rows, (row) => ({ row, key: value(row.cells[column]) }));
        const missing = (key) => key.text === "" || key.text === "\u2013";
        rows.sort((a, b) => {
          const [x, y] = [a.key, b.key];
          if (missing(x) || missing(y)) return missing(x) - missing(y);
          const numbers = !Number.isNaN(x.number) && !Number.isNaN(y.number);
          const order = numbers ? x.number - y.number : x.text.localeCompare(y.text);
          return down ? -order : order;
        });
        body.append(...rows.map((entry) => entry.row));
      });
    });
  }
  // Pointing at (or tabbing to) a class in the key of a map brings it forward.
  for (const key of document.querySelectorAll("ul.pick")) {
    const chart = key.previousElementSibling;
    if (!chart) continue;
    const groups = chart.querySelectorAll("g[data-class]");
    const show = (name) => {
      for (const group of groups) {
        group.classList.toggle("dim", name !== null && group.dataset.class !== name);
      }
    };
    for (const item of key.querySelectorAll("li[data-class]")) {
      item.tabIndex = 0;
      const on = () => show(item.dataset.class);
      const off = () => show(null);
      item.addEventListener("pointerenter", on);
      item.addEventListener("pointerleave", off);
      item.addEventListener("focus", on);
      item.addEventListener("blur", off);
    }
  }
})();
