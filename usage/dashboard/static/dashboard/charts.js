// Draws each figure with data-chart from the JSON beside it: see usage/dashboard/charts.py.
"use strict";

(() => {
  const HEIGHT = 220;
  const FONT = "12px system-ui, sans-serif";
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  // "34991.9050" becomes "34,991.9050". The text is never converted, since a number loses digits.
  const withCommas = (text) => {
    const [whole, ...rest] = String(text).split(".");
    return [whole.replace(/\B(?=(\d{3})+$)/g, ","), ...rest].join(".");
  };

  const withoutYear = (label) => label.replace(/ \d{4}$/, "");

  const numbers = (chart) => chart.series.map((series) => series.values.map(Number));

  // Adds to each series those before it. The highest is first, so it is drawn behind the others.
  function stacked(values) {
    const tops = [];
    values.forEach((row, index) =>
      tops.push(row.map((value, place) => value + (index ? tops[index - 1][place] : 0))));
    return tops.reverse();
  }

  function axis(options) {
    const line = { stroke: colour("grid"), width: 1 };
    return { stroke: colour("quiet"), font: FONT, grid: line, ticks: line, ...options };
  }

  function options(chart, series, width) {
    const last = chart.labels.length - 1;
    const isStacked = chart.kind === "stacked";
    return {
      width,
      height: HEIGHT,
      padding: [12, 36, 0, 0],
      cursor: { drag: { x: false, y: false } },
      scales: {
        x: { time: false, range: [-0.5, last + 0.5] },
        y: { range: (_, least, most) => [Math.min(least, 0), most > 0 ? most * 1.05 : 1] },
      },
      axes: [
        axis({
          size: 34,
          space: 100,
          grid: { show: false },
          incrs: [1, 2, 5, 7, 10, 14, 20, 30, 50, 100, 200, 500],
          values: (_, places) => places.map((place) => withoutYear(chart.labels[place] ?? "")),
        }),
        axis({ size: 62, values: (_, values) => values.map((value) => short.format(value)) }),
      ],
      series: [
        { label: isStacked ? "Run" : "Day", value: (_, place) => chart.labels[place] ?? "–" },
        ...series.map(({ label, colour: name, values }) => ({
          label,
          stroke: colour(name),
          fill: isStacked ? colour(name) : undefined,
          width: isStacked ? 0 : 2,
          paths: isStacked ? uPlot.paths.bars({ size: [0.8, 40] }) : undefined,
          points: { show: !isStacked, size: 5, fill: colour(name) },
          value: (_, _value, _series, place) => (place == null ? "–" : withCommas(values[place])),
        })),
      ],
    };
  }

  function draw(figure) {
    const chart = JSON.parse(document.getElementById(figure.dataset.chart).textContent);
    const place = figure.querySelector(".drawing");
    const isStacked = chart.kind === "stacked";
    const series = isStacked ? [...chart.series].reverse() : chart.series;
    const values = isStacked ? stacked(numbers(chart)) : numbers(chart);
    const data = [chart.labels.map((_, index) => index), ...values];
    place.replaceChildren();
    return new uPlot(options(chart, series, place.clientWidth), data, place);
  }

  function drawAll() {
    const drawn = new Map();
    for (const figure of document.querySelectorAll("[data-chart]")) {
      drawn.set(figure.querySelector(".drawing"), draw(figure));
    }
    return drawn;
  }

  let drawn = drawAll();
  const watcher = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (drawn.get(target).width !== target.clientWidth) {
        drawn.get(target).setSize({ width: target.clientWidth, height: HEIGHT });
      }
    }
  });
  for (const place of drawn.keys()) watcher.observe(place);
  // A canvas keeps its colours when the colour scheme changes.
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const plot of drawn.values()) plot.destroy();
    drawn = drawAll();
  });
})();
