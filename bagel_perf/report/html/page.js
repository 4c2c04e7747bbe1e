"use strict";
// The page is whole without this script. All that it makes has the class "made"; all words go in as text, never as
// markup; nothing is asked of any network.

const element = (tag, properties = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
};
const button = (text, onclick, more = {}) => element("button", { type: "button", onclick, ...more }, text);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const isCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const afterColours = [];

// Colours of the page: those of the system, or the reader's choice, which is kept where the browser lets a file keep it.

const THEME = "bagel-perf.theme";
function kept(...value) {
  try {
    if (value.length) localStorage.setItem(THEME, value[0]);
    return localStorage.getItem(THEME);
  } catch {
    return null;
  }
}
function setTheme(theme) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  afterColours.forEach(each => each());
}
setTheme(kept());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => afterColours.forEach(each => each()));

function themeChoice() {
  const names = { system: "as the system", light: "light", dark: "dark" };
  const choice = element("select", { onchange: () => { kept(choice.value); setTheme(choice.value); } },
    ...Object.entries(names).map(([value, text]) => element("option", { value }, text)));
  choice.value = document.documentElement.dataset.theme || "system";
  return element("label", {}, "Colours: ", choice);
}

// Folds and links into them.

const folds = () => all("main details");

function openTo(target) {
  for (let each = target; each; each = each.parentElement) if (each.matches("details")) each.open = true;
  const own = target.matches("section") && target.querySelector(":scope > details");
  if (own) own.open = true;
}

function show(target) {
  openTo(target);
  target.scrollIntoView({ block: target.matches("section") ? "start" : "center", behavior: isCalm() ? "auto" : "smooth" });
  if (!target.matches("a, button, input, select, summary, [tabindex]")) target.tabIndex = -1;
  target.focus({ preventScroll: true });
}

function followHash() {
  let id = location.hash.slice(1);
  try { id = decodeURIComponent(id); } catch { /* an id as it is */ }
  const target = id && document.getElementById(id);
  if (target) { openTo(target); target.scrollIntoView(); }
}

// Contents: the section that is being read is marked.

function followReader() {
  const links = new Map();
  for (const link of all('nav a[href^="#"]')) {
    const section = document.getElementById(link.getAttribute("href").slice(1));
    if (section) links.set(section, link);
  }
  if (!links.size) return;
  const sections = [...links.keys()];
  const mark = () => {
    const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2 && scrollY > 0;
    const read = atEnd ? sections.at(-1)
      : sections.findLast(each => each.getBoundingClientRect().top <= innerHeight / 3) || sections[0];
    for (const [section, link] of links) {
      if (section === read) link.setAttribute("aria-current", "location");
      else link.removeAttribute("aria-current");
    }
  };
  let isAsked = false;
  const ask = () => {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(() => { isAsked = false; mark(); });
  };
  addEventListener("scroll", ask, { passive: true });
  addEventListener("resize", ask);
  mark();
}

function makeSettings() {
  const settings = element("div", { className: "made settings", role: "group", "aria-label": "This page" }, themeChoice());
  if (folds().length) {
    settings.append(button("Open all folds", () => folds().forEach(each => { each.open = true; })),
      button("Close all folds", () => folds().forEach(each => { each.open = false; })));
  }
  const nav = document.querySelector("nav");
  if (nav) (nav.querySelector("details") || nav).append(settings);
  else document.querySelector("main").prepend(settings);
}

// Tables: sorted by any column, filtered, copied.

const UNITS = { s: 1e3, ms: 1, us: 1e-3, "µs": 1e-3, ns: 1e-6, min: 6e4, h: 3.6e6, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 };
const NUMBER = /[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?/i;

// The first number of a cell in its unit: of "12 / 3" and of "-17.5 to -6.6" the first; null where there is none.
function numberOf(text) {
  const plain = text.replaceAll("\u2212", "-");
  const found = plain.match(NUMBER);
  if (!found) return null;
  const number = Number(found[0].replaceAll(",", ""));
  const after = plain.slice(found.index + found[0].length).match(/^\s*([a-zµ]+)/i)?.[1];
  const unit = Object.hasOwn(UNITS, after) ? after : plain.match(/\s([a-zµ]+)\s*$/i)?.[1];
  return number * (Object.hasOwn(UNITS, unit) ? UNITS[unit] : 1);
}

function cellText(cell) {
  const copy = cell.cloneNode(true);
  all(".made", copy).forEach(each => each.remove());
  return copy.textContent.replace(/\s+/g, " ").trim();
}

// Text that Markdown takes for nothing else; underscores and stars inside of names and alone mean nothing there.
const inert = text => text.replace(/[\\`<|[\]]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|(?<=\S)\*|\*(?=\S)|~(?=~)|(?<=~)~|&(?=#|[A-Za-z][A-Za-z0-9]*;)/g, "\\$&");

function markdownOf(table) {
  const written = cell => {
    const text = cellText(cell), isCode = cell.querySelector("code") && /^[^`\\]+$/.test(text);
    return isCode ? `\`${text.replaceAll("|", "\\|")}\`` : inert(text);
  };
  const headers = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows].filter(row => !row.hidden);
  const line = cells => `| ${cells.join(" | ")} |`;
  return [
    line(headers.map(each => inert(each.firstChild?.matches?.(".sort") ? cellText(each.firstChild) : cellText(each)))),
    line(headers.map(each => each.classList.contains("number") ? "---:" : "---")),
    ...rows.map(row => line([...row.cells].map(written))),
  ].join("\n") + "\n";
}

// Into the clipboard; where the browser does not let a file do that, into a box from which it can be copied.
async function copy(text, beside, said) {
  const done = () => {
    said.textContent = "Copied";
    setTimeout(() => { said.textContent = ""; }, 3000);
  };
  try {
    await navigator.clipboard.writeText(text);
    done();
    return;
  } catch { /* the next way */ }
  document.querySelector(".copybox")?.remove();
  const box = element("textarea", { className: "made copybox", value: text, readOnly: true, rows: 6, "aria-label": "Table as Markdown, to copy" });
  beside.after(box);
  box.focus();
  box.select();
  let isCopied = false;
  try { isCopied = document.execCommand("copy"); } catch { /* by hand, then */ }
  if (isCopied) done();
  else said.textContent = "Press Ctrl+C to copy the text below";
}

function makeTable(table) {
  const body = table.tBodies[0], head = table.tHead?.rows[0], caption = table.caption;
  if (!body || !head || !caption || !body.rows.length) return;
  const title = cellText(caption), order = [...body.rows];
  table.setAttribute("aria-label", title);
  const said = element("span", { className: "said", role: "status" });
  const tools = element("span", { className: "made tools" });

  if (order.length > 8) {
    const number = element("span", { role: "status" }, `${order.length} rows`);
    const texts = order.map(row => [...row.cells].map(cellText).join(" ").toLowerCase());
    const filter = element("input", {
      type: "search", placeholder: "Filter rows", size: 12, "aria-label": `Filter rows of: ${title}`,
      oninput: () => {
        const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
        order.forEach((row, index) => { row.hidden = !words.every(word => texts[index].includes(word)); });
        const left = order.filter(row => !row.hidden).length;
        number.textContent = left === order.length ? `${left} rows` : `${left} of ${order.length} rows`;
      },
    });
    tools.append(filter, number);
    table.clearFilter = () => { filter.value = ""; filter.dispatchEvent(new Event("input")); };
  }
  if (order.length > 2) makeSortable(head, body, order);
  tools.append(button("Copy as Markdown", () => copy(markdownOf(table), table.closest(".scroll") || table, said),
    { "aria-label": `Copy as Markdown: ${title}` }), said);
  caption.append(element("span", { className: "caption-line" }, ...caption.childNodes, tools));
}

function makeSortable(head, body, order) {
  const headers = [...head.cells];
  headers.forEach((header, column) => {
    const texts = new Map(order.map(row => [row, cellText(row.cells[column])]));
    const isNumeric = header.classList.contains("number");
    const keys = new Map(order.map(row => [row, isNumeric ? numberOf(texts.get(row)) : texts.get(row)]));
    const first = isNumeric ? "descending" : "ascending", second = isNumeric ? "ascending" : "descending";
    const compare = (a, b) => isNumeric ? a - b : a.localeCompare(b, "en", { numeric: true, sensitivity: "base" });
    const sort = button("", () => {
      const now = header.getAttribute("aria-sort");
      const next = now === first ? second : now === second ? null : first;
      headers.forEach(each => each.removeAttribute("aria-sort"));
      let rows = order;
      if (next) {
        header.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        const isKnown = row => keys.get(row) !== null;
        rows = [...order.filter(isKnown).sort((a, b) => sign * compare(keys.get(a), keys.get(b))),
          ...order.filter(row => !isKnown(row))];
      }
      body.append(...rows);
    }, { className: "sort", title: "Sort by this column; the third click brings the first order back" });
    sort.append(...header.childNodes);
    header.append(sort);
  });
}

// Timelines: the same bars as in the drawing, at any zoom, on a canvas.

const LANES = { cpu: "CPU", syncs: "waits", gpu: "GPU", idle: "idle" };
const NOTHING = { cpu: "nothing recorded", syncs: "no wait", gpu: "no work", idle: "never idle" };
const NAME_PX = 20, LANE_PX = 17, BAR_PX = 13, SPACE_PX = 8, AXIS_PX = 24, GUTTER_PX = 44, MAP_PX = 34;
const FONT = "12px system-ui, sans-serif";

// A lane's list of numbers, as timeline_data.py writes it, as columns; times in ms.
function readLane(numbers, width, unit) {
  const number = numbers.length / width;
  const lane = { begin: new Float64Array(number), end: new Float64Array(number), fill: new Float32Array(number),
    label: new Int16Array(number), place: new Int32Array(number).fill(-1) };
  for (let each = 0, at = 0, from = 0; each < number; each++, from += width) {
    lane.begin[each] = (at += numbers[from]) * unit;
    lane.end[each] = (at += numbers[from + 1]) * unit;
    lane.fill[each] = 1 - numbers[from + 2] / 1000;
    if (width > 3) lane.label[each] = numbers[from + 3];
    if (width > 4) lane.place[each] = numbers[from + 4];
  }
  return lane;
}

// The first bar that ends after a time.
function firstAfter(lane, time) {
  let low = 0, high = lane.end.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (lane.end[middle] < time) low = middle + 1; else high = middle;
  }
  return low;
}

function msText(ms, step = ms / 1000) {
  if (Math.abs(ms) >= 1e4) return `${(ms / 1000).toFixed(step >= 1000 ? 0 : clamp(Math.ceil(-Math.log10(step / 1000)), 1, 6))} s`;
  const digits = clamp(Math.ceil(-Math.log10(step || 1) - 1e-9), 0, 4);
  return `${ms.toFixed(digits)} ms`;
}

class Timeline {
  constructor(figure, data) {
    this.data = data;
    this.strips = data.strips.map(strip => ({ ...strip, cpu: readLane(strip.cpu, 3, data.unit), syncs: readLane(strip.syncs, 5, data.unit),
      gpu: readLane(strip.gpu, 3, data.unit), idle: readLane(strip.idle, 4, data.unit) }));
    this.strips.reduce((top, strip) => {
      strip.top = top;
      return strip.bottom = top + (strip.name ? NAME_PX : 0) + strip.lanes.length * LANE_PX + SPACE_PX;
    }, 0);
    this.length = Math.max(data.unit, ...this.strips.map(strip => strip.length * data.unit));
    this.from = 0;
    this.to = this.length;
    this.chosen = null; // the wait that has the keyboard's attention: [strip, number]
    this.marked = -1; // the place whose waits are marked
    this.frame = 0;
    this.build(figure);
  }

  build(figure) {
    const title = figure.querySelector("[aria-label]")?.getAttribute("aria-label") || "Timeline";
    const step = (text, label, act) => button(text, act, { "aria-label": label, title: label });
    this.range = element("span", { className: "range" });
    this.status = element("p", { className: "note said", role: "status" });
    this.map = element("canvas", { className: "map", "aria-hidden": "true" });
    this.window = element("div", { className: "window" });
    this.mapBox = element("div", { className: "map-box", title: "The whole stretch; drag the window" }, this.map, this.window);
    this.canvas = element("canvas", {
      className: "lanes", tabIndex: 0, role: "application", "aria-label": `${title}. Plus and minus zoom, arrows move, Home shows all, `
        + "N and P go to the next and previous wait, Enter goes to its line.",
    });
    this.tip = element("div", { className: "tip", hidden: true });
    this.box = element("div", { className: "made timeline" },
      element("div", { className: "bar", role: "group", "aria-label": `Zoom of ${title}` },
        step("+", "Zoom in", () => this.zoom(0.5)), step("\u2212", "Zoom out", () => this.zoom(2)),
        step("\u2190", "Earlier", () => this.move(-0.3)), step("\u2192", "Later", () => this.move(0.3)),
        button("Show all", () => this.setWindow(0, this.length)), this.range,
        element("span", {}, this.data.axis.replace(/^ms /, ""))),
      this.mapBox, element("div", { className: "view" }, this.canvas, this.tip), this.legend(), this.status);
    const old = figure.querySelector(".scroll");
    old.classList.add("drawn-live");
    old.after(this.box);
    this.listen();
    this.readColours();
    new ResizeObserver(() => this.resize()).observe(this.box);
    addEventListener("resize", () => this.resize());
    afterColours.push(() => { this.readColours(); this.drawMap(); this.ask(); });
  }

  legend() {
    const entries = [["l-cpu", "CPU: operators and calls"], ["l-gpu", "GPU: at work"],
      ...this.data.kinds.map(([name, label]) => [name, `wait: ${label}`]), ...this.data.causes.map(([name, label]) => [name, `idle: ${label}`])];
    return element("ul", { className: "legend", "aria-label": "Colours" }, ...entries.map(([name, label]) => {
      const swatch = element("i", { "aria-hidden": "true" });
      swatch.style.backgroundColor = `var(--${name})`;
      return element("li", {}, swatch, label);
    }));
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    const of = name => style.getPropertyValue(`--${name}`).trim() || "#888";
    this.colours = { cpu: [of("l-cpu")], gpu: [of("l-gpu")], syncs: this.data.kinds.map(([name]) => of(name)),
      idle: this.data.causes.map(([name]) => of(name)), ink: of("ink"), muted: of("muted"), line: of("line"), paper: of("paper") };
    this.names = this.strips.map(strip => strip.colour ? of(strip.colour) : this.colours.ink);
  }

  laneTop(index, name) {
    const strip = this.strips[index];
    return strip.top + (strip.name ? NAME_PX : 0) + strip.lanes.indexOf(name) * LANE_PX;
  }
  scale() { return (this.width - GUTTER_PX - 1) / (this.to - this.from); }
  xOf(time) { return GUTTER_PX + (time - this.from) * this.scale(); }
  timeOf(x) { return this.from + (x - GUTTER_PX) / this.scale(); }

  // For another width, or for other pixels of the same one, as of another screen.
  resize() {
    const width = Math.floor(this.box.clientWidth);
    if (!width || (width === this.width && devicePixelRatio === this.ratio)) return;
    this.width = width;
    this.ratio = devicePixelRatio;
    this.height = this.strips.at(-1).bottom + AXIS_PX;
    this.fit(this.canvas, this.width, this.height);
    this.fit(this.map, this.width - GUTTER_PX, MAP_PX);
    this.drawMap();
    this.setWindow(this.from, this.to);
  }

  fit(canvas, width, height) {
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  // A window inside of the whole stretch; it does not become shorter than a microsecond.
  setWindow(from, to) {
    const length = clamp(to - from, Math.min(0.001, this.length), this.length);
    this.from = clamp(from, 0, this.length - length);
    this.to = this.from + length;
    this.ask();
  }
  // Without a place: about the chosen wait, if it is in sight.
  middle() {
    const lane = this.chosen && this.strips[this.chosen[0]].syncs;
    const time = lane ? (lane.begin[this.chosen[1]] + lane.end[this.chosen[1]]) / 2 : -1;
    return time >= this.from && time <= this.to ? time : (this.from + this.to) / 2;
  }
  zoom(factor, at = this.middle()) { this.setWindow(at - (at - this.from) * factor, at + (this.to - at) * factor); }
  move(share) { const by = share * (this.to - this.from); this.setWindow(this.from + by, this.to + by); }

  ask() {
    if (this.frame || !this.width) return;
    this.frame = requestAnimationFrame(() => { this.frame = 0; this.resize(); this.draw(); });
  }

  draw() {
    const context = this.canvas.getContext("2d"), { ink, muted, line } = this.colours;
    context.clearRect(0, 0, this.width, this.height);
    context.font = FONT;
    context.textBaseline = "middle";
    this.drawAxis(context, muted, line);
    this.strips.forEach((strip, index) => {
      if (strip.name) {
        context.fillStyle = this.names[index];
        context.font = `600 ${FONT}`;
        context.fillText(strip.name, 0, strip.top + NAME_PX / 2, this.width);
        context.font = FONT;
      }
      strip.lanes.forEach(name => {
        const top = this.laneTop(index, name);
        context.fillStyle = ink;
        context.fillText(LANES[name], 0, top + BAR_PX / 2 + 1);
        if (strip[name].begin.length) this.drawLane(context, strip[name], name, top);
        else {
          context.fillStyle = muted;
          context.fillText(NOTHING[name], Math.max(this.xOf(0), GUTTER_PX) + 4, top + BAR_PX / 2 + 1);
        }
      });
      this.drawMarks(context, strip, index);
    });
    this.place();
  }

  drawAxis(context, muted, line) {
    const bottom = this.height - AXIS_PX, least = (this.to - this.from) * 80 / Math.max(this.width - GUTTER_PX, 80);
    const power = 10 ** Math.floor(Math.log10(least));
    const step = [1, 2, 5, 10].map(each => each * power).find(each => each >= least);
    context.fillStyle = muted;
    context.strokeStyle = line;
    context.lineWidth = 1;
    context.beginPath();
    let free = -Infinity;
    for (let number = Math.ceil(this.from / step); number * step <= this.to + step * 1e-6; number++) {
      const x = Math.round(this.xOf(number * step)) + 0.5, text = msText(number * step, step);
      context.moveTo(x, 0);
      context.lineTo(x, bottom + 3);
      const width = context.measureText(text).width, left = clamp(x - width / 2, GUTTER_PX - 12, this.width - width);
      if (left < free) continue;
      context.fillText(text, left, bottom + 13);
      free = left + width + 8;
    }
    context.stroke();
  }

  // Where bars are narrower than a pixel the highest of each pixel is drawn.
  drawLane(context, lane, name, top) {
    const colours = this.colours[name], scale = this.scale(), heights = this.data.causes;
    let label = -1, lastRight = -1, lastHeight = 0;
    for (let each = firstAfter(lane, this.from); each < lane.begin.length && lane.begin[each] <= this.to; each++) {
      const left = Math.max(GUTTER_PX + (lane.begin[each] - this.from) * scale, GUTTER_PX);
      const right = Math.min(GUTTER_PX + (lane.end[each] - this.from) * scale, this.width);
      const width = Math.max(right - left, name === "syncs" ? 1.2 : 0.4);
      let height = BAR_PX * Math.max(lane.fill[each], 0.08);
      if (name === "idle") height *= heights[lane.label[each]][2];
      if (right <= lastRight && height <= lastHeight) continue;
      if (lane.label[each] !== label) context.fillStyle = colours[label = lane.label[each]];
      context.fillRect(left, top + BAR_PX - height, width, height);
      if (width <= 1.2) { lastRight = Math.ceil(right); lastHeight = height; } else lastRight = -1;
    }
  }

  // Little triangles above the waits of the place that was asked for, and a frame around the chosen one.
  drawMarks(context, strip, index) {
    const top = this.laneTop(index, "syncs"), lane = strip.syncs;
    context.fillStyle = this.colours.ink;
    let last = -Infinity;
    if (this.marked >= 0) {
      for (let each = firstAfter(lane, this.from); each < lane.begin.length && lane.begin[each] <= this.to; each++) {
        const x = this.xOf((lane.begin[each] + lane.end[each]) / 2);
        if (lane.place[each] !== this.marked || x < last + 3 || x < GUTTER_PX) continue;
        last = x;
        context.beginPath();
        context.moveTo(x - 3.5, top - 4);
        context.lineTo(x + 3.5, top - 4);
        context.lineTo(x, top + 1);
        context.fill();
      }
    }
    if (this.chosen?.[0] === index) {
      const left = this.xOf(lane.begin[this.chosen[1]]), right = this.xOf(lane.end[this.chosen[1]]);
      context.strokeStyle = this.colours.ink;
      context.lineWidth = 2;
      context.strokeRect(left - 2, top - 1, Math.max(right - left, 1) + 4, BAR_PX + 2);
    }
  }

  drawMap() {
    if (!this.width) return;
    const context = this.map.getContext("2d"), scale = (this.width - GUTTER_PX - 1) / this.length;
    const height = MAP_PX / this.strips.length;
    context.clearRect(0, 0, this.width, MAP_PX);
    this.strips.forEach((strip, index) => {
      for (const [name, top, part] of [["gpu", 0.15, 0.4], ["syncs", 0.6, 0.3]]) {
        strip[name].begin.forEach((begin, each) => {
          context.fillStyle = this.colours[name][strip[name].label[each]];
          const tall = height * part * Math.max(strip[name].fill[each], 0.1);
          context.fillRect(begin * scale, height * (index + top + part) - tall, Math.max((strip[name].end[each] - begin) * scale, 0.6), tall);
        });
      }
    });
  }

  place() {
    this.window.style.left = `${this.from / this.length * 100}%`;
    this.window.style.width = `max(${(this.to - this.from) / this.length * 100}%, 6px)`;
    const step = (this.to - this.from) / 1000;
    this.range.textContent = `${msText(this.from, step)} to ${msText(this.to, step)} of ${msText(this.length, this.length / 1000)}`;
  }

  // The bar at a point of the canvas; of waits, which are narrow, the nearest within three pixels.
  at(x, y) {
    const index = this.strips.findIndex(each => y < each.bottom), strip = this.strips[index];
    const name = strip?.lanes.find(each => y >= this.laneTop(index, each) - 1 && y < this.laneTop(index, each) + LANE_PX - 1);
    if (!name || x < GUTTER_PX) return null;
    const lane = strip[name], room = (name === "syncs" ? 3 : 1) / this.scale(), time = this.timeOf(x);
    let best = -1, nearest = room;
    for (let each = firstAfter(lane, time - room); each < lane.begin.length && lane.begin[each] <= time + room; each++) {
      const distance = Math.max(lane.begin[each] - time, time - lane.end[each], 0);
      if (distance < nearest || best < 0) { best = each; nearest = distance; }
    }
    return best < 0 ? null : { index, name, each: best };
  }

  describe({ index, name, each }) {
    const strip = this.strips[index], lane = strip[name], length = lane.end[each] - lane.begin[each];
    const what = { cpu: () => "CPU: operators and calls", gpu: () => "GPU: at work", syncs: () => `Wait: ${this.data.kinds[lane.label[each]][1]}`,
      idle: () => `GPU idle: ${this.data.causes[lane.label[each]][1]}` }[name]();
    const lines = [strip.name ? `${strip.name}. ${what}` : what, `${msText(length)}, from ${msText(lane.begin[each], length / 100)} on`];
    if (lane.fill[each] < 0.999) lines.push(`Several in one bar, which they fill to ${(100 * lane.fill[each]).toFixed(1)}%`);
    if (lane.place[each] >= 0) {
      const [place, row] = this.data.places[lane.place[each]];
      lines.push(place);
      if (row) lines.push("Click to go to its line in the table");
    }
    return lines;
  }

  hover(x, y) {
    const found = this.at(x, y);
    this.canvas.style.cursor = found && this.rowOf(found) ? "pointer" : "";
    this.tip.hidden = !found;
    if (!found) return;
    this.tip.replaceChildren(...this.describe(found).map(text => element("div", {}, text)));
    const width = this.tip.offsetWidth;
    this.tip.style.left = `${clamp(x + 14, 0, Math.max(this.width - width, 0))}px`;
    this.tip.style.top = `${y + 16}px`;
  }

  rowOf({ index, name, each }) {
    const place = name === "syncs" ? this.strips[index].syncs.place[each] : -1;
    return place < 0 ? null : document.getElementById(this.data.places[place][1]);
  }

  go(found) {
    const row = this.rowOf(found);
    if (!row) return;
    row.closest("table")?.clearFilter?.();
    all("tr.found").forEach(each => each.classList.remove("found"));
    row.classList.add("found");
    row.cameFrom = this;
    this.marked = this.strips[found.index].syncs.place[found.each];
    this.ask();
    show(row);
  }

  // From a line of the table to its waits: all of the stretch, its longest wait chosen.
  comeTo(place) {
    this.marked = place;
    let best = null, longest = -1;
    this.strips.forEach((strip, index) => strip.syncs.place.forEach((each, number) => {
      const length = strip.syncs.end[number] - strip.syncs.begin[number];
      if (each === place && length > longest) { best = [index, number]; longest = length; }
    }));
    this.setWindow(0, this.length);
    if (best) this.choose(...best);
    show(this.canvas);
  }

  choose(index, each) {
    this.chosen = [index, each];
    const lane = this.strips[index].syncs, middle = (lane.begin[each] + lane.end[each]) / 2;
    if (middle < this.from || middle > this.to) this.setWindow(middle - (this.to - this.from) / 2, middle + (this.to - this.from) / 2);
    this.status.textContent = this.describe({ index, name: "syncs", each }).join(". ").replace("Click to go", "Press Enter to go");
    this.ask();
  }

  next(step) {
    const order = this.strips.flatMap((strip, index) => [...strip.syncs.begin.keys()].map(each => [index, each]));
    if (!order.length) { this.status.textContent = "There is no wait here."; return; }
    const inside = ([index, each]) => this.strips[index].syncs.end[each] >= this.from && this.strips[index].syncs.begin[each] <= this.to;
    const now = this.chosen ? order.findIndex(([index, each]) => index === this.chosen[0] && each === this.chosen[1]) : -1;
    const at = now < 0 ? Math.max(order.findIndex(inside), 0) : (now + step + order.length) % order.length;
    this.choose(...order[at]);
  }

  listen() {
    const points = new Map();
    let start = null, isMoved = false;
    const x = event => event.clientX - this.canvas.getBoundingClientRect().left;
    const y = event => event.clientY - this.canvas.getBoundingClientRect().top;
    this.canvas.addEventListener("wheel", event => {
      if (event.ctrlKey || event.metaKey) this.zoom(Math.exp(clamp(event.deltaY, -100, 100) / 250), this.timeOf(x(event)));
      else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.move((event.deltaX || event.deltaY) / this.width);
      else return;
      event.preventDefault();
      this.tip.hidden = true;
    }, { passive: false });
    this.canvas.addEventListener("pointerdown", event => {
      if (event.button) return;
      this.canvas.setPointerCapture(event.pointerId);
      points.set(event.pointerId, x(event));
      start = { from: this.from, to: this.to, points: new Map(points) };
      isMoved = points.size > 1;
    });
    this.canvas.addEventListener("pointermove", event => {
      if (!points.has(event.pointerId)) { this.hover(x(event), y(event)); return; }
      points.set(event.pointerId, x(event));
      const [[a, aAt], [b, bAt] = []] = points, first = start.points.get(a);
      if (Math.abs(aAt - first) > 3) isMoved = true;
      if (!isMoved) return;
      this.tip.hidden = true;
      const length = start.to - start.from, inner = this.width - GUTTER_PX;
      const timeAt = at => start.from + (at - GUTTER_PX) / inner * length;
      if (b === undefined) { this.setWindow(start.from - (aAt - first) / inner * length, start.to - (aAt - first) / inner * length); return; }
      // What lay under both fingers stays under them.
      const second = start.points.get(b), stretch = Math.abs(second - first) / Math.max(Math.abs(bAt - aAt), 1);
      const from = timeAt((first + second) / 2) - ((aAt + bAt) / 2 - GUTTER_PX) / inner * length * stretch;
      this.setWindow(from, from + length * stretch);
    });
    const release = event => {
      if (!points.delete(event.pointerId)) return;
      if (points.size) { start = { from: this.from, to: this.to, points: new Map(points) }; return; }
      if (event.type !== "pointerup" || isMoved) return;
      const found = this.at(x(event), y(event));
      if (!found) return;
      if (event.pointerType === "touch" && this.tip.hidden) this.hover(x(event), y(event)); // first what it is, then where
      else this.go(found);
    };
    for (const type of ["pointerup", "pointercancel"]) this.canvas.addEventListener(type, release);
    this.canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    this.canvas.addEventListener("keydown", event => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const act = {
        "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2), ArrowLeft: () => this.move(-0.1), ArrowRight: () => this.move(0.1),
        Home: () => this.setWindow(0, this.length), n: () => this.next(1), p: () => this.next(-1),
        Enter: () => this.chosen && this.go({ index: this.chosen[0], name: "syncs", each: this.chosen[1] }),
        Escape: () => { this.chosen = null; this.marked = -1; this.tip.hidden = true; this.status.textContent = ""; this.ask(); },
      }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
      if (!"npEnterEscape".includes(event.key)) this.tell();
    });
    const inMap = event => (event.clientX - this.mapBox.getBoundingClientRect().left) / (this.width - GUTTER_PX) * this.length;
    let grip = null;
    this.mapBox.addEventListener("pointerdown", event => {
      this.mapBox.setPointerCapture(event.pointerId);
      const time = inMap(event), isInside = time >= this.from && time <= this.to;
      grip = isInside ? time - this.from : (this.to - this.from) / 2;
      this.setWindow(time - grip, time - grip + this.to - this.from);
    });
    this.mapBox.addEventListener("pointermove", event => {
      if (grip !== null) this.setWindow(inMap(event) - grip, inMap(event) - grip + this.to - this.from);
    });
    for (const type of ["pointerup", "pointercancel"]) this.mapBox.addEventListener(type, () => { grip = null; });
  }

  // For who does not see it: the window, and how many waits are in it.
  tell() {
    this.place();
    const waits = this.strips.map(strip => {
      let number = 0;
      for (let each = firstAfter(strip.syncs, this.from); each < strip.syncs.begin.length && strip.syncs.begin[each] <= this.to; each++) number++;
      return `${strip.name ? `${strip.name}: ` : ""}${number} bar${number === 1 ? "" : "s"} of waits`;
    });
    this.status.textContent = `${this.range.textContent}; ${waits.join(", ")}`;
  }
}

// What timeline_data.py packs.
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), each => each.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

async function makeTimelines() {
  if (!("DecompressionStream" in window)) return; // the drawings stay
  const ways = new Map(); // from the id of a row to the timelines that have its waits
  for (const script of all("script.lanes-data")) {
    const timeline = new Timeline(script.closest("figure"), await unpacked(script.textContent));
    timeline.data.places.forEach(([, row], place) => {
      if (row) ways.set(row, [...(ways.get(row) || []), [timeline, place]]);
    });
  }
  for (const [id, found] of ways) {
    const cell = document.getElementById(id)?.cells?.[0];
    cell?.append(button("in the timeline", () => {
      const [timeline, place] = found.find(([each]) => each === cell.parentElement.cameFrom) || found[0];
      timeline.comeTo(place);
    }, { className: "made to-timeline" }));
  }
}

// Pictures: two of a case over each other with a slider, in turn, or their difference.

function makePictures(photos) {
  const pictures = all("figure[data-picture]", photos).map(figure => ({ name: figure.dataset.picture, image: figure.querySelector("img") }));
  const first = pictures[0]?.image;
  const fitting = pictures.filter(each => each.image.width === first.width && each.image.height === first.height);
  if (fitting.length < 2) return;
  const choice = (label, at) => {
    const select = element("select", { onchange: () => update() }, ...fitting.map(({ name }, index) => element("option", { value: String(index) }, name)));
    select.value = String(at);
    return [element("label", {}, `${label} `, select), select];
  };
  const from = fitting.length > 2 && fitting[0].name === "input" ? 1 : 0; // two outputs rather than an output and its input
  const [labelA, a] = choice("Left or first", from), [labelB, b] = choice("Right or second", from + 1);
  const under = element("img", {}), over = element("img", { className: "over" });
  const canvas = element("canvas", { width: first.naturalWidth || first.width, height: first.naturalHeight || first.height });
  const stack = element("div", { className: "stack" }, under, over, canvas);
  const range = (label, low, high, value) => {
    const input = element("input", { type: "range", min: low, max: high, value, oninput: () => update() });
    return [element("label", {}, `${label} `, input), input];
  };
  const [sliderLabel, slider] = range("Edge", 0, 100, 50), [gainLabel, gain] = range("Gain", 1, 64, 16);
  const said = element("p", { className: "note said", role: "status" });
  let mode = "slider", timer = 0;
  const modes = { slider: "Slider", blink: "Blink", difference: "Difference" };
  const buttons = Object.entries(modes).map(([name, text]) => button(text, () => { mode = name; update(); }, { "data-mode": name }));

  function update() {
    const left = fitting[Number(a.value)], right = fitting[Number(b.value)];
    buttons.forEach(each => each.setAttribute("aria-pressed", String(each.dataset.mode === mode)));
    clearInterval(timer);
    sliderLabel.hidden = mode !== "slider";
    gainLabel.hidden = canvas.hidden = mode !== "difference";
    under.hidden = over.hidden = mode === "difference";
    under.src = right.image.src;
    over.src = left.image.src;
    under.alt = `Right: ${right.name}`;
    over.alt = `Left: ${left.name}`;
    over.style.visibility = "";
    over.style.clipPath = mode === "slider" ? `inset(0 ${100 - slider.value}% 0 0)` : "";
    if (mode === "slider") said.textContent = `Left of the edge ${left.name}, right of it ${right.name}.`;
    if (mode === "difference") difference(left, right);
    if (mode === "blink") {
      let isFirst = true;
      const turn = () => {
        over.style.visibility = isFirst ? "" : "hidden";
        stack.dataset.shown = (isFirst ? left : right).name;
        isFirst = !isFirst;
      };
      turn();
      timer = setInterval(turn, 700); // slower than three times a second, which could harm
      said.textContent = `${left.name} and ${right.name} in turn, a change every 0.7 s.`;
    }
  }

  function levels(image) {
    const scratch = element("canvas", { width: canvas.width, height: canvas.height }), context = scratch.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  }

  function difference(left, right) {
    const one = levels(left.image), other = levels(right.image);
    let most = 0, number = 0;
    for (let at = 0; at < one.data.length; at += 4) {
      let isUnlike = false;
      for (let part = at; part < at + 3; part++) {
        const apart = Math.abs(one.data[part] - other.data[part]);
        if (apart) isUnlike = true;
        if (apart > most) most = apart;
        one.data[part] = Math.min(255, apart * gain.value);
      }
      one.data[at + 3] = 255;
      if (isUnlike) number++;
    }
    canvas.getContext("2d").putImageData(one, 0, 0);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Difference of ${left.name} and ${right.name}, times ${gain.value}`);
    said.textContent = `${number.toLocaleString("en")} of ${(one.data.length / 4).toLocaleString("en")} pixels differ, by ${most} levels at most; `
      + `shown times ${gain.value}. Of the pictures as this page shows them, which may be smaller than those measured.`;
  }

  const outputs = fitting.filter(({ name }) => name !== "input");
  photos.before(element("details", { className: "made compare", open: outputs.length > 1 },
    element("summary", {}, "Compare two pictures: slider, blink, difference"),
    element("div", { className: "bar" }, labelA, labelB, ...buttons, sliderLabel, gainLabel), stack, said));
  update();
}

document.addEventListener("DOMContentLoaded", async () => {
  makeSettings();
  all("main table").forEach(makeTable);
  all(".photos").forEach(makePictures);
  followReader();
  addEventListener("hashchange", followHash);
  document.addEventListener("click", event => {
    const link = event.target.closest?.('a[href^="#"]');
    if (link && link.hash === location.hash) followHash();
  });
  followHash();
  await makeTimelines();
  document.documentElement.dataset.live = "ready";
  performance.mark("live");
});
