// The charts of the page. Each is a figure element that sections/chart.html writes:
//
//   figure.chart#chart-NAME[data-chart=NAME]     gets data-drawn="yes" as soon as its script has drawn it
//     [data-role=choice]   #chart-NAME-choice    select: which panel is drawn; hidden where there is one only
//     [data-role=plot]     #chart-NAME-plot      holds uPlot's canvas; takes the focus: arrow keys, Home, End
//     [data-role=reading]  #chart-NAME-reading   the figures at the place that is pointed at; aria-live
//     [data-role=legend]   #chart-NAME-legend    button[data-key][aria-pressed] per name of a line, and per kind
//     [data-role=paper]    #chart-NAME-paper     the SVG for print, and for browsers without scripts
//     [data-role=png|svg|csv]                    buttons: downloads NAME.png, NAME.svg, NAME.csv
//     [data-role=figures]                        the figures as JSON
"use strict";

const PALETTE = JSON.parse(document.getElementById("palette").textContent);
const WORDS = JSON.parse(document.getElementById("strings").textContent);
const DARK = matchMedia("(prefers-color-scheme: dark)");
const FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";
const BAND_OPACITY = "26"; // hexadecimal, of 255
const LETTER = 7; // pixels that a letter of an axis needs, with some air

/** The value of a colour of the style sheets, in the scheme that is on now. */
function colourOf(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** A figure as people read it: at most three decimals. */
function numberText(value, digits = 3) {
  return Math.abs(value) >= 1000 || value === 0 || Math.abs(value) >= 0.001 ? value.toFixed(digits) : value.toPrecision(3);
}

/** A place on the x axis as people read it. */
function placeText(axis, value) {
  const named = axis.ticks.find((tick) => tick[0] === value);
  if (named) return named[1];
  return value !== 0 && Math.abs(value) < 0.0001 ? String(value.toExponential()) : String(Number(value.toPrecision(6)));
}

/** A cell of a CSV file. */
function csvCell(value) {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

class Chart {
  constructor(figure) {
    this.figure = figure;
    this.part = (role) => figure.querySelector(`[data-role="${role}"]`);
    this.chart = JSON.parse(this.part("figures").textContent);
    this.hidden = hiddenAtFirst(this.chart.panels.flatMap((panel) => panel.lines));
    this.at = null; // the place in the data that is read out
    this.choose();
    this.listen();
    this.draw();
    figure.dataset.drawn = "yes";
  }

  get panel() {
    return this.chart.panels[Number(this.part("choice").value || 0)];
  }

  /** Fill the select with the panels, and show what only a script can fill. */
  choose() {
    const select = this.part("choice");
    this.chart.panels.forEach((panel, place) => select.add(new Option(panel.name, place)));
    select.closest("p").hidden = this.chart.panels.length < 2;
    for (const role of ["plot", "reading", "legend"]) this.part(role).hidden = false;
    this.figure.querySelector(".chart-x").hidden = false;
  }

  listen() {
    this.part("choice").addEventListener("change", () => this.draw());
    this.part("plot").addEventListener("keydown", (event) => this.key(event));
    this.part("csv").addEventListener("click", () => saveFile(`${this.chart.name}.csv`, "text/csv", this.csv()));
    this.part("svg").addEventListener("click", () => saveFile(`${this.chart.name}.svg`, "image/svg+xml", this.svg()));
    this.part("png").addEventListener("click", () => this.png());
    DARK.addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.fit()).observe(this.part("plot"));
  }

  /** Columns for uPlot: x, and for each line its figures and the ends of their intervals. */
  columns() {
    const lines = this.panel.lines;
    const xs = [...new Set(lines.flatMap((line) => line.points.map((point) => point[0])))].sort((a, b) => a - b);
    const rows = lines.map((line) => {
      const found = new Map(line.points.map((point) => [point[0], point]));
      const last = line.points.length ? line.points[line.points.length - 1][0] : -Infinity;
      let held = null;
      return xs.map((x) => {
        held = found.get(x) ?? (this.chart.steps && x <= last ? held : null);
        return held;
      });
    });
    return { xs, rows };
  }

  draw() {
    this.plot?.destroy();
    const { xs, rows } = this.columns();
    this.xs = xs;
    this.rows = rows;
    this.at = null;
    const data = [xs];
    const series = [{}];
    const bands = [];
    this.panel.lines.forEach((line, place) => {
      const colour = () => colourOf(`line-${line.colour % PALETTE.lines}`);
      const shown = this.shows(line);
      const dash = PALETTE.dashes[line.dash % PALETTE.dashes.length];
      data.push(...[1, 2, 3].map((column) => rows[place].map((point) => (point ? point[column] : null))));
      series.push({
        label: line.name, show: shown, stroke: colour, width: 2, dash: dash.map((length) => 1.5 * length), spanGaps: true,
        paths: this.chart.steps ? uPlot.paths.stepped({ align: 1 }) : uPlot.paths.linear(),
        points: { show: !this.chart.steps && xs.length <= 40, size: 6, fill: colour, stroke: colour },
      });
      for (const end of ["low", "high"]) {
        series.push({ label: end, show: shown, spanGaps: true, width: 0, stroke: "transparent", points: { show: false } });
      }
      const first = 3 * place + 1;
      bands.push({ series: [first + 2, first + 1], fill: () => colour() + BAND_OPACITY });
    });
    this.plot = new uPlot(this.options(series, bands), data, this.part("plot"));
    this.legend();
    this.part("reading").textContent = this.hint ??= this.part("reading").textContent;
  }

  size() {
    const width = Math.max(this.part("plot").clientWidth, 200);
    return { width, height: Math.round(Math.min(Math.max(0.5 * width, 230), 360)) };
  }

  options(series, bands) {
    const { x, y } = this.chart;
    const ink = () => colourOf("muted");
    const line = { stroke: () => colourOf("line"), width: 1 };
    const both = { stroke: ink, font: FONT, grid: line, ticks: line };
    return {
      ...this.size(), series, bands, legend: { show: false },
      padding: [12, 24, 0, 0],
      cursor: { drag: { x: false, y: false }, points: { size: 9 }, y: false },
      scales: {
        x: { time: false, distr: x.logarithmic ? 3 : 1, range: (plot, low, high) => spread(low, high, x.logarithmic) },
        y: { distr: y.logarithmic ? 3 : 1, range: y.limits ? () => y.limits : undefined },
      },
      axes: [
        { ...both, size: 34, values: (plot, places) => places.map((place) => (place === null ? "" : placeText(x, place))),
          ...splitsOf(x) },
        { ...both, size: (plot, texts) => Math.max(46, 12 + LETTER * Math.max(0, ...(texts ?? []).map((text) => text.length))),
          space: 44, values: (plot, places) => places.map((place) => (place === null ? "" : placeText(y, place))),
          label: y.name, labelFont: FONT, labelSize: 18 },
      ],
      hooks: { setCursor: [(plot) => this.read(plot.cursor.idx)] },
    };
  }

  fit() {
    const size = this.size();
    if (this.plot && size.width !== this.plot.width) this.plot.setSize(size);
  }

  key(event) {
    const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (!(event.key in moves) || event.altKey || event.ctrlKey || event.metaKey || !this.xs.length) return;
    event.preventDefault();
    const from = this.at ?? (moves[event.key] > 0 ? -1 : this.xs.length);
    const to = Math.min(Math.max(from + moves[event.key], 0), this.xs.length - 1);
    this.plot.setCursor({ left: this.plot.valToPos(this.xs[to], "x"), top: 10 });
    this.read(to);
  }

  /** Say the figures of all drawn lines at a place in the data. */
  read(place) {
    if (place === null || place === undefined || place === this.at) return;
    this.at = place;
    const told = this.panel.lines.flatMap((line, number) =>
      this.shows(line) ? [`${line.label} ${pointText(this.rows[number][place])}`] : []);
    this.part("reading").textContent = `${placeText(this.chart.x, this.xs[place])}: ${told.join("; ")}`;
  }

  /** Whether a line is drawn: neither its name nor its kind is hidden. */
  shows(line) {
    return keysOf(line).every((key) => !this.hidden.has(key));
  }

  /** A button per name and per kind, which shows how such a line is drawn, and hides or shows it. */
  legend() {
    const entries = new Map();
    for (const line of this.panel.lines) {
      const [name, kind] = keysOf(line);
      if (kind) entries.set(kind, { text: line.kind, line: { ...line, colour: PALETTE.neutral } });
      if (!entries.has(name)) entries.set(name, { text: line.figure ? `${line.name} (${line.figure})` : line.name, line });
    }
    const order = [...entries].sort(([a], [b]) => a.startsWith("kind") - b.startsWith("kind"));
    const legend = this.part("legend");
    legend.replaceChildren(...order.map(([key, entry]) => this.entry(key, entry)));
    legend.hidden = order.length < 2 && !order.some(([, entry]) => entry.line.figure);
  }

  entry(key, { text, line }) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.key = key;
    button.setAttribute("aria-pressed", String(!this.hidden.has(key)));
    button.append(swatch(line), text);
    button.addEventListener("click", () => {
      if (!this.hidden.delete(key)) this.hidden.add(key);
      button.setAttribute("aria-pressed", String(!this.hidden.has(key)));
      this.refresh();
    });
    return button;
  }

  refresh() {
    this.panel.lines.forEach((line, place) => {
      for (const column of [1, 2, 3]) this.plot.setSeries(3 * place + column, { show: this.shows(line) });
    });
    const place = this.at;
    this.at = null;
    this.read(place);
  }

  csv() {
    const rows = this.chart.panels.flatMap((panel) => panel.lines.flatMap((line) =>
      line.points.map((point) => [panel.name, line.label, ...point])));
    return [["panel", "line", "x", "y", "low", "high", "cases"], ...rows]
      .map((row) => row.map(csvCell).join(",")).join("\n") + "\n";
  }

  svg() {
    const text = new XMLSerializer().serializeToString(this.part("paper").querySelector("svg"));
    return `<?xml version="1.0" encoding="utf-8"?>\n${text}\n`;
  }

  /** The SVG as an image, four pixels per point, as sharp as print needs. */
  png() {
    const box = this.part("paper").querySelector("svg").viewBox.baseVal;
    const image = new Image(4 * box.width, 4 * box.height);
    image.onload = () => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [image.width, image.height];
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => saveFile(`${this.chart.name}.png`, "image/png", blob));
    };
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(this.svg())}`;
  }
}

/** What a button of the legend hides: all lines of a name, or of a kind. */
function keysOf(line) {
  return line.kind ? [`name ${line.name}`, `kind ${line.kind}`] : [`name ${line.name}`];
}

/** The names and kinds of which no line is drawn before a reader chooses. */
function hiddenAtFirst(lines) {
  const shown = new Set(lines.filter((line) => line.shown).flatMap(keysOf));
  return new Set(lines.flatMap(keysOf).filter((key) => !shown.has(key)));
}

/** The ends of the x axis; a single place has some room on both sides. */
function spread(low, high, logarithmic) {
  if (low === null || high === null) return logarithmic ? [1, 10] : [0, 1];
  if (low !== high) return [low, high];
  return logarithmic ? [low, 10 * high] : [low - 0.5, high + 0.5];
}

/** Where the x axis has its ticks; nothing where uPlot finds round numbers by itself. */
function splitsOf(axis) {
  if (axis.ticks.length) return { splits: (plot) => fitting(axis.ticks, plot.bbox.width / devicePixelRatio) };
  return axis.logarithmic ? { splits: (plot, place, low, high) => decades(low, high), filter: (plot, all) => all } : {};
}

/** The powers of ten on an axis, with their doubles and fivefolds where there are few of them. */
function decades(low, high) {
  const powers = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) powers.push(10 ** power);
  const factors = powers.length > 3 ? [1] : [1, 2, 5];
  return powers.flatMap((power) => factors.map((factor) => factor * power)).filter((x) => x >= low && x <= high);
}

/** The places of named ticks whose names do not touch each other: the first, the last, and what fits between. */
function fitting(ticks, width) {
  const places = ticks.map((tick) => tick[0]);
  const [first, last] = [places[0], places[places.length - 1]];
  const least = ((last - first) * LETTER * Math.max(...ticks.map((tick) => tick[1].length + 1))) / Math.max(width, 1);
  const kept = [first];
  for (const place of places.slice(1, -1)) {
    if (place - kept[kept.length - 1] >= least && last - place >= least) kept.push(place);
  }
  return last === first ? kept : [...kept, last];
}

/** A figure with its interval and its number of scans. */
function pointText(point) {
  if (!point || point[1] === null) return WORDS.chart_nothing;
  const interval = point[2] === null || point[3] === null ? "" : ` [${numberText(point[2], 2)}, ${numberText(point[3], 2)}]`;
  const count = point[4] === null ? "" : ` (${point[4] === 1 ? WORDS.chart_scan : WORDS.chart_scans.replace("{count}", point[4])})`;
  return numberText(point[1]) + interval + count;
}

/** How a line is drawn, as a small picture. */
function swatch(line) {
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  const stroke = document.createElementNS(space, "line");
  const dash = PALETTE.dashes[line.dash % PALETTE.dashes.length];
  const values = { x1: 0, x2: 28, y1: 5, y2: 5, "stroke-width": 2.5, "stroke-dasharray": dash.map((d) => 1.5 * d).join(" ") };
  for (const [name, value] of Object.entries({ width: 28, height: 10, "aria-hidden": "true" })) {
    picture.setAttribute(name, value);
  }
  for (const [name, value] of Object.entries(values)) stroke.setAttribute(name, value);
  stroke.style.stroke = `var(--line-${line.colour % PALETTE.lines})`;
  picture.append(stroke);
  return picture;
}

document.querySelectorAll("figure.chart").forEach((figure) => new Chart(figure));
