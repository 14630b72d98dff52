
"use strict";
// Names reach the page as text nodes only (textContent), never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const [columns, rows, perTile, usable] = data.mesh;
const side = Math.ceil(Math.sqrt(perTile)), deep = Math.ceil(perTile / side);
const select = document.getElementById("metric"), holder = document.getElementById("chips");
const detail = document.getElementById("detail"), showLinks = document.getElementById("links"), back = document.getElementById("back");
const detailed = data.cores.length > 0, many = data.chips.length > 16 || !detailed;
let openChip = null, chosen = null;

data.metrics.forEach((metric, i) => select.append(new Option(metric.name, i)));

function element(parent, name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  parent.append(made);
  return made;
}
function html(parent, name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}
const stops = [[222, 235, 247], [107, 160, 210], [8, 48, 107]];
function colour(share) {
  const at = Math.min(1, Math.max(0, share)) * 2, i = Math.min(1, Math.floor(at)), f = at - i;
  return "rgb(" + stops[i].map((a, k) => Math.round(a + (stops[i + 1][k] - a) * f)).join(",") + ")";
}
function number(v) { return v >= 1000 ? Math.round(v).toLocaleString("en") : String(+v.toPrecision(3)); }
function compact(v) { return Intl.NumberFormat("en", {notation: "compact", maximumSignificantDigits: 3}).format(v); }
function scaleOf(metric, values) { return metric.limit || Math.max(1e-30, ...values); }

function press(shape, action) {
  shape.setAttribute("tabindex", "0");
  shape.setAttribute("role", "button");
  shape.addEventListener("click", action);
  shape.addEventListener("keydown", e => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); action(); } });
}

function drawChip(chip, metric, most, label) {
  const figure = html(holder, "figure");
  figure.style.margin = "0";
  if (label) html(figure, "figcaption", "chip " + chip).className = "dim";
  const svg = element(figure, "svg", {viewBox: `-0.1 -0.1 ${columns * side + 0.2} ${rows * deep + 0.2}`, role: "group", "aria-label": "cores of chip " + chip});
  const here = new Map();
  data.cores.forEach((core, i) => { if (core[0] === chip) here.set((core[2] * columns + core[1]) * perTile + core[3], i); });
  for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) for (let c = 0; c < perTile; c++) {
    const place = (y * columns + x) * perTile + c, left = x * side + c % side, high = y * deep + Math.floor(c / side);
    const i = here.get(place), shape = element(svg, "rect", {x: left + .06, y: high + .06, width: .88, height: .88, rx: .06});
    shape.setAttribute("class", "core " + (i !== undefined ? "used" : place < usable ? "free" : "off"));
    if (i === undefined) continue;
    const share = metric.values[i] / most;
    shape.setAttribute("fill", colour(share));
    shape.setAttribute("aria-label", "core " + i);
    shape.dataset.core = i;
    if (chosen === i) shape.classList.add("chosen");
    press(shape, () => { chosen = i; holder.querySelectorAll(".chosen").forEach(e => e.classList.remove("chosen")); shape.classList.add("chosen"); describe(i); });
    const ink = share > .45 ? "#fff" : "#10243a";
    element(svg, "text", {x: left + .5, y: high + .44, fill: ink, "font-weight": "bold"}).textContent = i;
    element(svg, "text", {x: left + .5, y: high + .8, fill: ink, style: "font-size:.25px"}).textContent = compact(metric.values[i]) + (metric.unit === "%" ? "%" : "");
  }
  for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) element(svg, "rect", {class: "tile", x: x * side, y: y * deep, width: side, height: deep});
  if (showLinks.checked && data.links.length) {
    const wide = data.board[1], oy = Math.floor(chip / wide) * rows, ox = (chip % wide) * columns, busiest = data.links[0][3];
    for (const [ty, tx, direction, load] of data.links) {
      const y = ty - oy, x = tx - ox;
      if (y < 0 || x < 0 || y >= rows || x >= columns) continue;
      const dx = [1, -1, 0, 0][direction], dy = [0, 0, 1, -1][direction], cx = (x + .5) * side, cy = (y + .5) * deep;
      const shift = .12 * (direction % 2 ? -1 : 1), sx = dy ? shift : 0, sy = dx ? shift : 0;
      const line = element(svg, "line", {class: "link", x1: cx + dx * side * .4 + sx, y1: cy + dy * deep * .4 + sy, x2: cx + dx * side * .6 + sx, y2: cy + dy * deep * .6 + sy});
      line.setAttribute("stroke-width", .03 + .19 * Math.sqrt(load / busiest));
      element(line, "title", {}).textContent = number(load) + " packets";
    }
  }
}

function drawBoard(metric, most) {
  const wide = data.board[1], tall = Math.ceil(data.board[0] / wide);
  const svg = element(holder, "svg", {viewBox: `-0.1 -0.1 ${wide + .2} ${tall + .2}`, role: "group", "aria-label": "chips", style: "max-height:80vh"});
  const used = new Map(data.chips.map((chip, i) => [chip, i]));
  for (let chip = 0; chip < data.board[0]; chip++) {
    const i = used.get(chip), x = chip % wide, y = Math.floor(chip / wide);
    const shape = element(svg, "rect", {x: x + .05, y: y + .05, width: .9, height: .9, rx: .06, class: "core " + (i === undefined ? "free" : "used")});
    if (i === undefined) continue;
    shape.setAttribute("fill", colour(metric.chips[i] / most));
    shape.setAttribute("aria-label", "chip " + chip);
    shape.dataset.chip = chip;
    press(shape, () => { if (detailed) { openChip = chip; draw(); } describeChip(chip, i); });
    if (wide <= 16) element(svg, "text", {x: x + .5, y: y + .6, fill: metric.chips[i] / most > .45 ? "#fff" : "#10243a"}).textContent = chip;
  }
}

function values(list) {
  const dl = html(detail, "dl");
  for (const [name, value] of list) { const row = html(dl, "div"); html(row, "dt", name); html(row, "dd", value); }
}
function describe(i) {
  const [chip, x, y, slot, count, tiles] = data.cores[i];
  detail.replaceChildren();
  html(detail, "h3", `Core ${i}: chip ${chip}, tile (${x}, ${y}), core ${slot} of it`);
  const list = html(detail, "ul");
  for (const [population, range] of tiles) {
    const [name, layer, kind] = data.populations[population];
    html(list, "li", `${name}[${range}] (${kind}` + (layer === name ? ")" : `, for layer ${layer})`));
  }
  if (count > tiles.length) html(list, "li", `and ${count - tiles.length} more tiles`);
  values(data.metrics.map(m => [m.name, number(m.values[i]) + (m.unit ? " " + m.unit : "") + (m.limit && m.unit !== "%" ? " of " + number(m.limit) : "")]));
}
function describeChip(chip, i) {
  detail.replaceChildren();
  html(detail, "h3", `Chip ${chip}: ${number(data.chip_cores[i])} cores in use`);
  if (!detailed) html(detail, "p", `${number(data.core_count)} cores are too many for one page, so chips are shown; 'neurocompile energy --json' lists every core.`).className = "dim";
  values(data.metrics.map(m => [m.name + (m.limit ? ", mean of cores" : ""), number(m.chips[i]) + (m.unit ? " " + m.unit : "")]));
}
function draw() {
  const metric = data.metrics[select.value || 0];
  holder.replaceChildren();
  const board = many && openChip === null, shown = board ? metric.chips : metric.values, most = scaleOf(metric, shown);
  back.hidden = !(many && openChip !== null);
  document.getElementById("low").textContent = "0";
  document.getElementById("high").textContent = number(most) + (metric.unit ? " " + metric.unit : "") + (metric.limit ? " (limit)" : "");
  holder.classList.toggle("many", !board && openChip === null && data.chips.length > 1);
  if (board) drawBoard(metric, most);
  else for (const chip of openChip === null ? data.chips : [openChip]) drawChip(chip, metric, most, data.chips.length > 1);
}
select.addEventListener("change", draw);
showLinks.addEventListener("change", draw);
back.addEventListener("click", () => { openChip = null; draw(); });
draw();
