"use strict";
// Draws what the JSON of this page says, zooms all charts of time together. Names are put in as text, never as markup.
(() => {
  const { timeline, namespaces } = JSON.parse(document.getElementById("figures").textContent);
  const began = Date.parse(timeline.began) / 1000;
  const times = Array.from({ length: timeline.bins + 1 }, (_, at) => began + at * timeline.width_s);
  const whole = { min: times[0], max: times[timeline.bins] };
  const HEIGHT = 210;
  const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [14, 6], [4, 4], [12, 3, 2, 3, 2, 3], [1, 4]];
  const words = (list) => list.map((one) => one.toLocaleString("en"));
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const clock = (at) => new Date(Math.round(at * 1000)).toISOString().slice(11, 23);

  // The last number is drawn to the end of its bin.
  const closed = (numbers) => [...numbers, numbers[numbers.length - 1]];
  // One entry in a last bin that has hardly begun is no rush.
  const last = Math.max(timeline.last_s, timeline.width_s / 2);
  const perSecond = (counts) => counts.map((count, at) => count / (at === timeline.bins - 1 ? last : timeline.width_s));
  const some = (counts) => counts.some((count) => count);
  const sum = (counts) => counts.reduce((one, other) => one + other, 0);
  const named = (sort, lists, values) =>
    Object.entries(lists)
      .sort(([, one], [, other]) => sum(other) - sum(one))
      .map(([word, counts]) => ({ label: `${sort}${word}`, values: values(counts) }));

  const fill = () => {
    const label = new Map(namespaces.map((one) => [String(one.netns), one]));
    const lines = Object.entries(timeline.entries_by_netns).map(([inum, values]) => ({
      values,
      label: label.get(inum)?.name ?? inum,
      limit: label.get(inum)?.limit,
    }));
    // JavaScript has put keys that are numbers in their order.
    lines.sort((one, other) => Math.max(...other.values) - Math.max(...one.values));
    if (!lines.length) lines.push({ label: "entries", values: timeline.entries });
    const most = Math.max(1, ...lines.flatMap((line) => line.values));
    const limits = [...new Set(lines.map((line) => line.limit).filter((limit) => limit && limit <= 4 * most))];
    return [...lines, ...limits.map((limit) => ({ label: `limit ${limit}`, values: timeline.entries.map(() => limit), limit: true }))];
  };
  const CHARTS = {
    fill,
    rates: () => [{ label: "new", values: perSecond(timeline.new) }, ...named("gone: ", timeline.gone, perSecond)],
    losses: () => [
      ...named("lost: ", timeline.lost, (counts) => counts),
      ...named("found bad: ", timeline.found_bad, (counts) => counts),
      ...(some(timeline.clash_resolved) ? [{ label: "clash resolved, not lost", values: timeline.clash_resolved }] : []),
    ],
  };

  const drawn = new Map();
  let zooming = false;
  const zoom = (min, max) => {
    const width = Math.max(max - min, timeline.width_s * 2);
    const from = Math.min(Math.max(min, whole.min), Math.max(whole.max - width, whole.min));
    const range = { min: from, max: Math.min(from + width, whole.max) };
    zooming = true;
    for (const chart of drawn.values()) chart.setScale("x", range);
    zooming = false;
    document.getElementById("shown").textContent = `${clock(range.min)} to ${clock(range.max)} UTC`;
  };
  const shown = () => [...drawn.values()][0]?.scales.x ?? whole;

  const draw = (box) => {
    const lines = CHARTS[box.dataset.chart]();
    if (!lines.length) return;
    const losses = box.dataset.chart === "losses";
    const [ink, grid] = [colour("--faint"), colour("--line")];
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "12px system-ui, sans-serif" };
    const sorts = lines.map((line, at) => ({
      label: line.label,
      stroke: line.limit === true ? colour("--critical") : colour(`--s${(at + (losses ? 6 : 0)) % 8}`),
      dash: line.limit === true ? [4, 4] : DASHES[at % 8],
      width: 2,
      fill: at === 0 && lines.length === 1 ? `${colour(losses ? "--s6" : "--s0")}22` : undefined,
      paths: uPlot.paths.stepped({ align: 1 }),
      points: { show: false },
      value: (_, number) => (number === null ? "-" : number.toLocaleString("en", { maximumFractionDigits: 1 })),
    }));
    const chart = new uPlot(
      {
        width: box.clientWidth,
        height: HEIGHT,
        tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
        scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(high, 1) * 1.08] } },
        cursor: { sync: { key: "time" }, drag: { x: true, y: false } },
        axes: [{ ...axis, size: 36, space: 76, values: (_, ticks, __, ___, step) => ticks.map((at) => clock(at).slice(0, step < 1 ? 10 : 8)) }, { ...axis, size: 64, values: (_, ticks) => words(ticks) }],
        series: [{ label: "UTC", value: (_, at) => (at === null ? "-" : clock(at)) }, ...sorts],
        hooks: { setScale: [(one, key) => key === "x" && !zooming && zoom(one.scales.x.min, one.scales.x.max)] },
      },
      [times, ...lines.map((line) => closed(line.values))],
      box,
    );
    const canvas = box.querySelector("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", box.dataset.says);
    for (const name of box.querySelectorAll(".u-legend .u-series th")) {
      name.tabIndex = 0;
      name.setAttribute("role", "button");
      name.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          name.click();
        }
      });
    }
    box.uplot = chart;
    drawn.set(box, chart);
  };
  const boxes = [...document.querySelectorAll(".chart")];
  const redraw = () => {
    const { min, max } = shown();
    for (const chart of drawn.values()) chart.destroy();
    drawn.clear();
    boxes.forEach(draw);
    zoom(min ?? whole.min, max ?? whole.max);
  };
  redraw();
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", redraw);
  addEventListener("resize", () => drawn.forEach((chart, box) => chart.setSize({ width: box.clientWidth, height: HEIGHT })));

  const step = (grow, move) => {
    const { min, max } = shown();
    const [middle, half] = [(min + max) / 2, ((max - min) / 2) * grow];
    zoom(middle - half + move * half, middle + half + move * half);
  };
  const MOVES = { in: [0.5, 0], out: [2, 0], earlier: [1, -1], later: [1, 1], whole: [Infinity, 0] };
  for (const button of document.querySelectorAll(".tools button")) {
    const [grow, move] = MOVES[button.dataset.does];
    button.addEventListener("click", () => (grow === Infinity ? zoom(whole.min, whole.max) : step(grow, move)));
  }

  // Of a line to paste what has no room goes on farther in, and is broken between words: before --dport, not within its hyphens.
  const span = (kind, ...parts) => {
    const made = document.createElement("span");
    made.className = kind;
    made.append(...parts);
    return made;
  };
  for (const box of document.querySelectorAll("pre")) {
    const lines = box.textContent.split(/(?<=\n)/).map((line) =>
      span("line", ...line.split(/(\s+)/).map((word) => (word.includes("-") ? span("word", word) : word))),
    );
    box.replaceChildren(...lines);
  }
})();
