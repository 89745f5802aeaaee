"use strict";
// Sorts the tables of a page by the column whose head is clicked.
(() => {
  const key = (row, at) => {
    const { n } = row.cells[at].dataset;
    return n === undefined ? row.cells[at].textContent : n === "" ? -Infinity : Number(n);
  };
  for (const head of document.querySelectorAll("table.sortable thead th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = head.closest("table").tBodies[0];
      const order = (one, other) => {
        const [left, right] = [key(one, head.cellIndex), key(other, head.cellIndex)];
        return (left < right ? -1 : left > right ? 1 : 0) * (down ? -1 : 1);
      };
      body.append(...[...body.rows].sort(order));
    });
  }
})();
