// Draws the figures of a page.
for (const data of document.querySelectorAll("script.figure")) {
  const figure = JSON.parse(data.textContent);
  if (matchMedia("(pointer: coarse)").matches) figure.layout.dragmode = false;  // a finger scrolls
  Plotly.newPlot(data.previousElementSibling, figure.data, figure.layout,
    {responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"]});
}
