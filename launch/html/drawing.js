// What the page draws with: elements, cells in a table, curves, legends.
'use strict';

const SVG = 'http://www.w3.org/2000/svg';

/// An element with attributes; children are elements or text.
function make(name, attributes, ...children) {
  const isDrawn = ['svg', 'rect', 'text', 'title', 'line', 'path', 'circle', 'g'].includes(name);
  const element = isDrawn ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function number(value) {
  if (value === null || value === undefined) return 'unknown';
  if (Number.isInteger(value)) return value.toLocaleString('en');
  const size = Math.abs(value);
  return size >= 1e-3 && size < 1e5 ? String(+value.toPrecision(4)) : value.toExponential(2);
}

const brief = value => value === 0 ? '0' : value.toFixed(Math.abs(value) < 10 ? 2 : 0);
const percent = (part, whole) => whole ? `${(100 * part / whole).toFixed(1)} %` : 'none';
const mix = (colour, share) =>
  `color-mix(in oklab, ${colour} ${(100 * share).toFixed(1)}%, var(--empty))`;
const expertColour = e => e < 8 ? `var(--e${e})` : `hsl(${(e * 137.5) % 360} 60% 50%)`;
const layerOf = name => parseInt(name, 10);
const short = name => name.replace(/^layer\//, '');
const textWidth = text => 6.6 * [...text].length;

/// At most `width` pixels of a label.
function clipped(label, width) {
  const room = Math.max(2, Math.floor(width / 6.6));
  return [...label].length > room ? [...label].slice(0, room - 1).join('') + '…' : label;
}

function drawing(host, height, label) {
  const width = Math.max(240, host.clientWidth);
  const svg = make('svg', {viewBox: `0 0 ${width} ${height}`, height, role: 'img',
                           'aria-label': label});
  host.append(svg);
  return {svg, width};
}

/// Text at a place; one in the middle of its place is moved away from the drawing's edge.
function write(svg, x, y, text, anchor, kind, hover) {
  const half = textWidth(text) / 2;
  const right = svg.viewBox.baseVal.width - half;
  const at = anchor === 'middle' ? Math.max(half, Math.min(x, right)) : x;
  const element = make('text', {x: at, y, 'text-anchor': anchor || 'start', class: kind || ''},
                       text);
  if (hover && hover !== text) element.append(make('title', {}, hover));
  svg.append(element);
}

/// Every n-th label fits where neighbours are `step` pixels apart.
const everyFor = (labels, step) =>
  Math.max(1, Math.ceil((8 + Math.max(0, ...labels.map(textWidth))) / step));

/// A table of coloured cells. rows, columns: names; rowLabel(r): may be empty; at(r, c): null, or
/// {colour, share, hover, text}, share being how full the colour is.
function grid(host, spec) {
  const rowHeight = spec.rowHeight || 20;
  const labels = spec.rows.map((_, r) => spec.rowLabel ? spec.rowLabel(r) : spec.rows[r]);
  const available = Math.max(240, host.clientWidth);
  const left = Math.min(0.36 * available, 10 + Math.max(24, ...labels.map(textWidth)));
  const top = 20;
  const {svg, width} = drawing(host, top + rowHeight * spec.rows.length + 20, spec.label);
  const right = Math.max(4, textWidth(spec.columns[spec.columns.length - 1]) / 2);
  const cell = Math.min(spec.widest || 76, (width - left - right) / spec.columns.length);
  const every = everyFor(spec.columns, cell);
  spec.columns.forEach((name, c) => {
    const isLabelled = (spec.columns.length - 1 - c) % every === 0;  // the last one always
    if (isLabelled) write(svg, left + cell * (c + 0.5), top - 6, name, 'middle');
  });
  spec.rows.forEach((_, r) => {
    const y = top + rowHeight * r;
    const base = y + Math.min(rowHeight, 20) / 2 + 4;
    if (labels[r]) write(svg, left - 6, base, clipped(labels[r], left - 8), 'end', '', labels[r]);
    spec.columns.forEach((_, c) => {
      const shown = spec.at(r, c);
      if (!shown) return;
      const rect = make('rect', {x: left + cell * c, y, width: cell, height: rowHeight,
                                 class: 'cell', style: `fill: ${shown.colour}`});
      rect.append(make('title', {}, shown.hover));
      svg.append(rect);
      if (!shown.text || rowHeight < 16 || cell < textWidth(shown.text) + 6) return;
      const kind = shown.share > 0.75 ? 'on_full' : shown.share > 0.55 ? 'on_half' : 'value';
      write(svg, left + cell * (c + 0.5), base, shown.text, 'middle', kind);
    });
  });
  write(svg, left, top + rowHeight * spec.rows.length + 15, spec.below);
}

function ramp(host, low, high, unit, colours) {
  const stops = colours || [mix('var(--fill)', 0), mix('var(--fill)', 1)];
  host.append(make('div', {class: 'legend'},
    make('span', {}, low, make('i', {class: 'ramp',
      style: `background: linear-gradient(90deg, ${stops.join(', ')})`}), high,
      ` ${unit}`)));
}

function keys(host, entries) {
  host.append(make('div', {class: 'legend'}, ...entries.map(([name, colour]) =>
    make('span', {}, make('i', {style: `background: ${colour}`}), name))));
}

/// 1, 2, 5 times a power of ten, so that about `count` of them lie between the two.
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = Math.pow(10, Math.floor(Math.log10(rough)));
  const step = [1, 2, 5, 10].find(one => one * power >= rough) * power;
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high * (1 + 1e-9); ++at) {
    found.push(+(at * step).toPrecision(12));
  }
  return found;
}

/// 1, 2, 5 times the powers of ten between two powers; where they are too few, evenly spaced ones.
function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(low); power <= high; ++power) {
    for (const one of [1, 2, 5]) found.push(+(one * Math.pow(10, power)).toPrecision(12));
  }
  const inside = found.filter(tick => Math.log10(tick) >= low && Math.log10(tick) <= high);
  if (inside.length < 3) return ticks(Math.pow(10, low), Math.pow(10, high), 4);
  return inside.filter((_, i) => i % Math.ceil(inside.length / 8) === 0);
}

/// Curves over the steps. series: [{name, colour, points: [[step, value]], hasDots}].
function curves(host, spec) {
  const height = 260;
  const [left, right, top, bottom] = [52, 14, 22, 36];
  const {svg, width} = drawing(host, height, spec.label);
  const scaled = value => spec.isLog ? Math.log10(Math.max(value, 1e-12)) : value;
  const points = spec.series.flatMap(one => one.points);
  const steps = points.map(point => point[0]);
  const values = points.map(point => scaled(point[1]));
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = 0.06 * (high - low) || Math.abs(high) * 0.1 || 1;
  [low, high] = [low - margin, high + margin];
  const x = step => left + (width - left - right) * (last > first ? (step - first) / (last - first)
                                                                  : 0.5);
  const y = value => top + (height - top - bottom) * (high - scaled(value)) / (high - low);
  for (const tick of spec.isLog ? logTicks(low, high) : ticks(low, high, 5)) {
    const at = y(tick);
    svg.append(make('line', {class: 'axis', x1: left, x2: width - right, y1: at, y2: at}));
    write(svg, left - 6, at + 4, number(tick), 'end');
  }
  for (const tick of ticks(first, last, Math.max(2, Math.floor(width / 110)))) {
    if (Number.isInteger(tick)) write(svg, x(tick), height - bottom + 16, number(tick), 'middle');
  }
  write(svg, left, 12, spec.unit);
  write(svg, width - right, height - 4, 'step', 'end');
  for (const one of spec.series) {
    const path = one.points.map(([step, value], i) => `${i ? 'L' : 'M'}${x(step).toFixed(1)} ` +
      y(value).toFixed(1)).join('');
    svg.append(make('path', {class: 'curve', d: path, style: `stroke: ${one.colour}`},
                    make('title', {}, one.name)));
    for (const [step, value] of one.points) {
      svg.append(make('circle', {cx: x(step), cy: y(value), r: one.hasDots ? 3.5 : 5,
                                 style: `fill: ${one.colour}`,
                                 'fill-opacity': one.hasDots ? 1 : 0},
                      make('title', {}, `${one.name}, step ${step}: ${number(value)}`)));
    }
  }
}
