"use strict";
(() => {
  const natural = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const make = (tag, attributes = {}, text = "") => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return element;
  };

  // what a cell sorts by: its number, else its text; missing numbers come last either way
  const compare = (index, numeric, sign) => (a, b) => {
    const x = a.row.cells[index], y = b.row.cells[index];
    if (numeric) {
      const p = x.dataset.v === undefined, q = y.dataset.v === undefined;
      if (p || q) return p - q || a.order - b.order;
      return sign * (Number(x.dataset.v) - Number(y.dataset.v)) || a.order - b.order;
    }
    return sign * natural.compare(x.textContent, y.textContent) || a.order - b.order;
  };

  const sortable = (table, rows) => {
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, index) => {
      const button = make("button", { type: "button" }, header.textContent);
      header.replaceChildren(button);
      header.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const up = header.getAttribute("aria-sort") !== "ascending";
        headers.forEach((other) => other.setAttribute("aria-sort", "none"));
        header.setAttribute("aria-sort", up ? "ascending" : "descending");
        const numeric = header.classList.contains("number");
        table.tBodies[0].append(...[...rows].sort(compare(index, numeric, up ? 1 : -1)).map((r) => r.row));
      });
    });
  };

  const filterable = (section, table, rows) => {
    const headers = [...table.tHead.rows[0].cells];
    const tools = make("div", { class: "tools" });
    const tests = [];
    const count = make("output", { "aria-live": "polite" });
    const apply = () => {
      let shown = 0;
      for (const { row } of rows) {
        row.hidden = !tests.every((test) => test(row));
        shown += !row.hidden;
      }
      count.textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
    };
    const add = (name, control, test) => {
      const label = make("label", {}, name);
      label.append(control);
      tools.append(label);
      tests.push(test);
      for (const kind of ["input", "change"]) control.addEventListener(kind, apply);
    };
    const search = make("input", { type: "search" });
    add("Filter", search, (row) =>
      search.value.toLowerCase().split(/\s+/).every((word) => row.textContent.toLowerCase().includes(word)));
    headers.forEach((header, index) => {
      if (header.dataset.menu !== undefined) {
        const menu = make("select");
        menu.append(new Option("all", "\u0000"));
        const values = new Set(rows.map(({ row }) => row.cells[index].textContent));
        for (const value of values) menu.append(new Option(value === "" ? "(none)" : value, value));
        add(header.textContent, menu, (row) =>
          menu.selectedIndex < 1 || row.cells[index].textContent === menu.value);
      }
      if (header.dataset.fdr !== undefined) {
        const box = make("input", { type: "checkbox" });
        add("FDR < 0.05 only", box, (row) =>
          !box.checked || (row.cells[index].dataset.v !== undefined && Number(row.cells[index].dataset.v) < 0.05));
      }
    });
    tools.append(count);
    section.querySelector(".scroll").before(tools);
    apply();
  };

  for (const section of document.querySelectorAll("section.table")) {
    const table = section.querySelector("table.data");
    const rows = [...table.tBodies[0].rows].map((row, order) => ({ row, order }));
    if (rows.length > 12) filterable(section, table, rows);
    sortable(table, rows);
  }

  const dialog = document.getElementById("enlarged");
  for (const image of document.querySelectorAll(".plate img")) {
    const button = make("button", { type: "button", "aria-haspopup": "dialog" });
    image.replaceWith(button);
    button.append(image);
    button.addEventListener("click", () => {
      const large = image.cloneNode();
      const room = Math.min(window.innerWidth * 0.92, image.naturalWidth * 2.5);
      large.style.width = `${Math.max(room, image.clientWidth)}px`;
      dialog.querySelector(".stage").replaceChildren(large);
      dialog.showModal();
    });
  }
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.classList.contains("stage")) dialog.close();
  });
})();
