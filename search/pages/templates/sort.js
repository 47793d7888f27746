// Sorts tables of trials, arms, studies and classes: a click on a header sorts, another reverses.
const key = (row, column) => {
  const shown = row.cells[column].textContent.replace("−", "-");
  const text = shown.replace(/[#<]|(?<=\d)\s(?=\d)/g, "");
  return isNaN(parseFloat(text)) ? text : parseFloat(text);
};
const compare = (a, b) => typeof a === typeof b ? (a > b) - (a < b)
  : (typeof a === "string") - (typeof b === "string");
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.rows[0].cells];
  if (!["trial", "arm", "study", "class"].includes(heads[0].textContent)) continue;
  heads.forEach((head, column) => {
    const sort = () => {
      const turn = head.ariaSort === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.ariaSort = turn > 0 ? "ascending" : "descending";
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(
        (one, other) => turn * compare(key(one, column), key(other, column))));
    };
    head.tabIndex = 0;
    head.onclick = sort;
    head.onkeydown = (event) => { if (event.key === "Enter") sort(); };  // false cancels the key
  });
}
