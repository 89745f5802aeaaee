"use strict";
// Draws the one chart that the JSON of this page says. Names are put in as text, never as markup.
(() => {
  const chart = JSON.parse(document.getElementById("chart").textContent);
  const HEIGHT = 260;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const words = (number) => number.toLocaleString("en", { maximumFractionDigits: 2 });
  const minute = (at) => new Date(Math.round(at * 1000)).toISOString().slice(0, 16).replace("T", " ");
  const box = document.querySelector(".chart");

  const draw = () => {
    const sorts = Object.entries(chart.sorts);
    const timed = chart.kind === "time";
    // Bars stand above each other: the first sort is drawn last, in front, with its own length; behind it those with more below them.
    const tops = [];
    for (const [, numbers] of sorts) {
      const below = tops.length ? tops[tops.length - 1] : numbers.map(() => 0);
      tops.push(numbers.map((number, at) => number + below[at]));
    }
    const order = sorts.map((_, at) => at).reverse();
    const places = timed ? chart.at : chart.at.map((_, at) => at);
    const name = (at) => (timed ? minute(at) : (chart.at[at] ?? ""));
    const bars = uPlot.paths.bars({ size: [0.7, 48, 2], align: 0 });
    const [ink, grid] = [colour("--faint"), colour("--line")];
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "12px system-ui, sans-serif" };
    const low = places[0];
    const high = places[places.length - 1];
    const margin = timed ? Math.max((high - low) * 0.03, 60) : 0.6;
    const made = new uPlot(
      {
        width: box.clientWidth,
        height: HEIGHT,
        scales: { x: { time: false, range: () => [low - margin, high + margin] }, y: { range: (_, __, most) => [0, Math.max(most, 1e-9) * 1.08] } },
        cursor: { drag: { x: false, y: false } },
        axes: [
          {
            ...axis,
            size: timed ? 36 : 90,
            rotate: timed ? 0 : -45,
            space: timed ? 110 : 24,
            splits: timed ? undefined : () => places,
            values: (_, ticks) => ticks.map((at) => (timed ? minute(at) : name(at).slice(0, 18))),
          },
          { ...axis, size: 76, values: (_, ticks) => ticks.map(words) },
        ],
        series: [
          { label: chart.x, value: (_, at) => (at === null ? "-" : name(at)) },
          ...order.map((at) => ({
            label: sorts[at][0],
            stroke: colour(`--s${at % 8}`),
            fill: colour(`--s${at % 8}`),
            width: 0,
            paths: bars,
            points: { show: false },
            value: (_, __, ___, place) => (place === null ? "-" : words(sorts[at][1][place])),
          })),
        ],
      },
      [places, ...order.map((at) => tops[at])],
      box,
    );
    const canvas = box.querySelector("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", box.dataset.says);
    box.uplot = made;
  };
  if (chart) {
    draw();
    const redraw = () => {
      box.uplot.destroy();
      draw();
    };
    for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", redraw);
    addEventListener("resize", () => box.uplot.setSize({ width: box.clientWidth, height: HEIGHT }));
  }
})();
