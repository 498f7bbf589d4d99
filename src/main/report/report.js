'use strict';
// Draws what the page was given: a drawing a number, all runs in each, one crosshair through all of them.
const data = JSON.parse(document.getElementById('data').textContent);
const colour = index => 'var(--c' + index % 8 + ')';
const escape = words => words.replace(/[&<"]/g, c => ({ '&': '&amp;', '<': '&lt;', '"': '&quot;' })[c]);

// ---- numbers in words
const isBytes = name => /bytes$/.test(name);
const isShare = name => /^(planned_)?bubble$|exposed_communication|accurac|^mfu$|clipped_ratio/.test(name);
function scaled(value, base, units) {
  let at = 0;
  while (Math.abs(value) >= base && at + 1 < units.length) value /= base, ++at;
  return +value.toFixed(at && Math.abs(value) < 100 ? (Math.abs(value) < 10 ? 2 : 1) : 0) + units[at];
}
function words(name, value) {
  if (value === null || value === undefined || !isFinite(value)) return 'none';
  if (isBytes(name)) return scaled(value, 1024, [' B', ' KiB', ' MiB', ' GiB', ' TiB']);
  if (isShare(name)) return +(100 * value).toFixed(1) + ' %';
  const size = Math.abs(value);
  if (size >= 10000) return scaled(value, 1000, ['', 'k', 'M', 'G', 'T', 'P']);
  if (size > 0 && size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, 'e');
  return String(+value.toPrecision(4));
}
function time(seconds) {
  if (seconds < 60) return seconds.toFixed(1) + ' s';
  if (seconds < 6000) return (seconds / 60).toFixed(1) + ' min';
  return (seconds / 3600).toFixed(2) + ' h';
}

// ---- what there is to draw
// A line: a column of training, one of evaluation that goes with it, and how it is drawn.
const pairs = [['rewards/chosen', 'rewards/rejected'], ['logps/chosen', 'logps/rejected'], ['logits/chosen', 'logits/rejected'],
  ['measured_seconds', 'planned_seconds'], ['bubble', 'planned_bubble'], ['sharing_ratio', 'sharing_possible'],
  ['replica_imbalance', 'planned_replica_imbalance'], ['plan_seconds', 'plan_wait_seconds'], ['memory/peak_bytes', 'memory/bytes']];
const titles = { measured_seconds: 'seconds in packs, planned dashed', bubble: 'bubble, planned dashed', sharing_ratio: 'sharing, possible dashed',
  replica_imbalance: 'replica imbalance, planned dashed', plan_seconds: 'planning, waited for dashed', 'memory/peak_bytes': 'memory, peak and now',
  'rewards/chosen': 'rewards, rejected dashed', 'logps/chosen': 'logps, rejected dashed', 'logits/chosen': 'logits, rejected dashed' };
const speed = ['tokens_per_second', 'sharing_ratio', 'measured_seconds', 'bubble', 'exposed_communication', 'mfu', 'seconds', 'replica_imbalance',
  'stage_imbalance', 'plan_seconds'];
const first = ['loss', 'rewards/margins', 'rewards/accuracies', 'rewards/chosen', 'margin', 'accuracy', 'reward', 'reward_std', 'kl', 'entropy',
  'mean_token_accuracy', 'grad_norm', 'learning_rate', 'logps/chosen', 'logits/chosen'];
const counts = /_messages$|^(tokens_|num_tokens$|epoch$)/;
const exact = name => name === 'learning_rate' || isBytes(name);  // never smoothed

const columns = table => new Set(data.runs.flatMap(run => Object.keys(run[table].column)));
const training = columns('training'), evaluation = columns('evaluation');
const values = (run, name) => run.training.column[name] || run.evaluation.column[name] || [];
const dull = name => /imbalance$/.test(name) ? 1 : 0;  // what says that there is nothing to see
const isDrawn = name => data.runs.some(run => values(run, name).some(value => value !== null && value !== dull(name)));

function sections() {
  const taken = new Set(), second = new Map(pairs);
  const chart = name => {
    const lines = [name, second.get(name)].filter(one => one && (training.has(one) || evaluation.has(one)));
    lines.forEach(one => taken.add(one));
    const evaluated = evaluation.has('eval_' + name) && !speed.includes(name) ? 'eval_' + name : null;  // its speed is another
    taken.add(evaluated);
    return { name, title: titles[name] || name, lines, evaluated };
  };
  const isSecond = name => pairs.some(([one, other]) => other === name && training.has(one));
  const pick = names => names.filter(name => !taken.has(name) && !isSecond(name) && (isDrawn(name) || isDrawn('eval_' + name) || isDrawn(second.get(name) || ''))).map(chart);
  const all = [...training].sort();
  const learning = pick(first), fast = pick(speed);
  const memory = pick(all.filter(name => /^memory\/|^comm\/.*_bytes$/.test(name)).sort((a, b) => a.startsWith('comm') - b.startsWith('comm')));
  const rest = pick(all.filter(name => !counts.test(name)));
  const scored = pick([...evaluation].sort());
  return [['Learning', [...learning, ...rest]], ['Evaluation', scored], ['Speed', fast], ['Memory and bytes sent a step', memory]].filter(([, charts]) => charts.length);
}

// ---- state
const points = Math.max(...data.runs.map(run => run.training.step.length));
const state = { smooth: points > 400 ? 0.9 : 0.6, by: 'step', hidden: new Set(), log: new Set(), from: null, to: null, at: null };
const asked = new URLSearchParams(location.hash.slice(1));
if (asked.has('smooth')) state.smooth = +asked.get('smooth');

// Where a row stands: its step, tokens, or seconds since the start. Lines of every n-th step speak for those between.
for (const run of data.runs) {
  const { step, column } = run.training;
  let seconds = 0;
  run.x = { step, tokens: column.num_tokens || step, seconds: step.map((at, row) => seconds += ((column.seconds || [])[row] || 0) * (at - (row ? step[row - 1] : 0))) };
  const place = by => run.evaluation.step.map(at => {
    let row = step.findIndex(one => one >= at);
    if (row < 0) row = step.length - 1;
    return by === 'step' ? at : (run.x[by][row] ?? at);
  });
  run.evalX = { step: run.evaluation.step, tokens: place('tokens'), seconds: place('seconds') };
}
const axisWords = (by, x) => by === 'step' ? 'step ' + Math.round(x) : by === 'tokens' ? words('tokens', x) + ' tokens' : time(x);

// Bias-corrected moving average over the lines that have a number.
function smoothed(list, weight) {
  let sum = 0, left = 1;
  return list.map(value => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value, left *= weight;
    return sum / (1 - left);
  });
}

// ---- a drawing
const MARGIN = { left: 58, right: 12, top: 8, bottom: 22 };
const charts = [];

function seriesOf(chart) {
  const series = [];
  data.runs.forEach((run, index) => {
    if (state.hidden.has(index)) return;
    chart.lines.forEach((name, order) => {
      const own = run.training.column[name] ? 'training' : 'evaluation';
      const raw = run[own].column[name];
      if (!raw) return;
      const still = exact(name) || own === 'evaluation' || state.smooth === 0;
      series.push({ run, index, name, raw, y: still ? raw : smoothed(raw, state.smooth), x: (own === 'training' ? run.x : run.evalX)[state.by],
        kind: own === 'evaluation' ? 'points' : order ? 'second' : 'main', rough: !still && order === 0 });
    });
    const scores = chart.evaluated && run.evaluation.column[chart.evaluated];
    if (scores) series.push({ run, index, name: chart.evaluated, raw: scores, y: scores, x: run.evalX[state.by], kind: 'eval' });
  });
  return series;
}

function range(series, log) {
  const inView = [];
  for (const one of series) {
    const seen = list => list.filter((value, row) => value !== null && isFinite(value) && (!log || value > 0) && (state.from === null || (one.x[row] >= state.from && one.x[row] <= state.to)));
    inView.push(...seen(one.y));
    if (one.rough) {  // outliers of single lines may leave the drawing
      const sorted = seen(one.raw).sort((a, b) => a - b), edge = Math.floor(sorted.length / 50);
      inView.push(...sorted.slice(edge, sorted.length - edge));
    }
  }
  let low = inView.reduce((a, b) => Math.min(a, b), Infinity), high = inView.reduce((a, b) => Math.max(a, b), -Infinity);
  if (low > high) return null;
  if (log) return low === high ? [low / 2, high * 2] : [low, high];
  if (high - low <= 1e-9 * Math.max(Math.abs(low), Math.abs(high))) low -= Math.abs(low) / 10 || 1, high += Math.abs(high) / 10 || 1;
  const room = (high - low) * 0.06;
  return [low >= 0 && low < (high - low) / 2 ? 0 : low - room, high + room];
}

function ticks(low, high, count, log) {
  if (log) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); ++power)
      for (const digit of Math.log10(high / low) > 2 ? [1] : [1, 2, 5]) found.push(digit * 10 ** power);
    return found.filter(value => value >= low && value <= high);
  }
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const size = power * ([1, 2, 5, 10].find(step => step * power >= rough) || 10), found = [];
  for (let at = Math.ceil(low / size); at * size <= high + size * 1e-9 && found.length < 50; ++at) found.push(at * size);
  return found;
}

function draw(chart) {
  const width = chart.plot.clientWidth, height = chart.isFirst ? 300 : 190;
  if (!width) return;
  const series = chart.series = seriesOf(chart), log = state.log.has(chart.name), y = range(series, log);
  const ends = series.flatMap(one => one.x.length ? [one.x[0], one.x[one.x.length - 1]] : []);
  const from = state.from ?? Math.min(...ends), to = state.to ?? Math.max(...ends);
  const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  const px = value => MARGIN.left + (to > from ? (value - from) / (to - from) : 0.5) * inner.width;
  const part = value => log ? Math.log(value / y[0]) / Math.log(y[1] / y[0]) : (value - y[0]) / (y[1] - y[0]);
  const py = value => MARGIN.top + (1 - part(value)) * inner.height;
  Object.assign(chart, { px, py, from, to, inner, height, hasRange: y !== null });
  let out = '';
  if (y) {
    const unit = isBytes(chart.name) ? 1024 ** Math.floor(Math.log(Math.max(1, y[1])) / Math.log(1024)) : 1;
    for (const tick of ticks(y[0] / unit, y[1] / unit, chart.isFirst ? 6 : 4, log).map(value => value * unit)) {
      out += '<line class="grid-line" x1="' + MARGIN.left + '" x2="' + (width - MARGIN.right) + '" y1="' + py(tick) + '" y2="' + py(tick) + '"/>' +
        '<text text-anchor="end" x="' + (MARGIN.left - 7) + '" y="' + (py(tick) + 4) + '">' + words(chart.name, tick) + '</text>';
    }
    for (const tick of ticks(from, to, Math.max(3, Math.floor(inner.width / 80)), false)) {
      const at = px(tick), anchor = at > width - MARGIN.right - 24 ? 'end' : 'middle';
      out += '<text text-anchor="' + anchor + '" x="' + at + '" y="' + (height - 5) + '">' + (state.by === 'seconds' ? time(tick) : words('', tick)) + '</text>';
    }
    const clip = 'clip' + chart.id;
    out += '<clipPath id="' + clip + '"><rect x="' + MARGIN.left + '" y="' + (MARGIN.top - 3) + '" width="' + inner.width + '" height="' + (inner.height + 6) + '"/></clipPath><g clip-path="url(#' + clip + ')">';
    for (const one of series) if (one.rough) out += line(one, one.raw, 'raw', px, py, log);
    for (const one of series) out += line(one, one.y, one.kind, px, py, log);
    out += '</g><g class="over"></g>';
  }
  chart.plot.innerHTML = '<svg viewBox="0 0 ' + width + ' ' + height + '" height="' + height + '" role="img" aria-label="' + escape(chart.title) + '">' + out + '</svg>';
  point(chart);
}

function line(one, list, kind, px, py, log) {
  let path = '', dots = '', pen = 'M';
  const few = one.x.length === 1;
  list.forEach((value, row) => {
    if (value === null || (log && value <= 0)) return void (pen = 'M');
    const at = px(one.x[row]).toFixed(1) + ' ' + py(value).toFixed(1);
    path += pen + at, pen = 'L';
    if (kind === 'eval' || kind === 'points' || few) dots += '<circle r="3.2" cx="' + at.replace(' ', '" cy="') + '" fill="' + colour(one.index) + '"/>';
  });
  return '<path class="' + kind + '" stroke="' + colour(one.index) + '" d="' + path + '"/>' + dots;
}

// The row nearest to a place.
function nearest(x, at) {
  let low = 0, high = x.length - 1;
  while (low < high) {
    const middle = low + high >> 1;
    if (x[middle] < at) low = middle + 1; else high = middle;
  }
  return low > 0 && at - x[low - 1] <= x[low] - at ? low - 1 : low;
}

// Crosshair, and the values there; the last ones without it.
function point(chart) {
  const over = chart.plot.querySelector('.over');
  let marks = state.at === null ? '' : '<line class="cross" x1="' + chart.px(state.at) + '" x2="' + chart.px(state.at) + '" y1="' + MARGIN.top + '" y2="' + (chart.height - MARGIN.bottom) + '"/>';
  chart.readings = [];
  for (const one of chart.series) {
    let row = state.at === null ? one.x.length - 1 : nearest(one.x, state.at);
    while (row > 0 && one.y[row] === null) --row;
    const value = one.y[row];
    if (value === undefined) continue;
    chart.readings.push({ ...one, row, value, rawValue: one.raw[row] });
    if (state.at !== null && value !== null && (!state.log.has(chart.name) || value > 0))
      marks += '<circle class="dot" r="4" cx="' + chart.px(one.x[row]) + '" cy="' + chart.py(value) + '" fill="' + colour(one.index) + '"/>';
  }
  // A run's numbers beside each other: the line, the dashed one, the evaluation.
  chart.values.innerHTML = [...new Set(chart.readings.map(one => one.index))].map(index => '<span><i style="background:' + colour(index) + '"></i>' +
    chart.readings.filter(one => one.index === index).map(one => (one.kind === 'eval' ? 'eval ' : '') + words(one.name, one.value)).join(' / ') + '</span>').join('');
  if (over && chart.hasRange) over.innerHTML = marks;
}

// ---- the pointer
const tip = document.createElement('div');
tip.id = 'tip', tip.hidden = true;
document.body.append(tip);

function pointAt(at, chart, event) {
  state.at = at;
  charts.forEach(point);
  document.querySelector('#controls .at').textContent = at === null ? '' : axisWords(state.by, at);
  if (at === null || !chart) return void (tip.hidden = true);
  const many = data.runs.length > 1;
  tip.innerHTML = '<table>' + chart.readings.map(one => '<tr><td><i style="background:' + colour(one.index) + '"></i>' + escape(many ? one.run.name : one.name) +
    (many && chart.readings.some(other => other.name !== one.name) ? ' <span class="faint">' + escape(one.name) + '</span>' : '') +
    '</td><td class="faint">' + axisWords(state.by, one.x[one.row]) + '</td><td>' + words(one.name, one.value) + '</td>' +
    (one.rough ? '<td class="faint">' + words(one.name, one.rawValue) + '</td>' : '') + '</tr>').join('') + '</table>';
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(6, event.clientX + 18 + box.width > innerWidth ? event.clientX - 18 - box.width : event.clientX + 18) + 'px';
  tip.style.top = Math.max(6, Math.min(innerHeight - box.height - 6, event.clientY + 14)) + 'px';
}

function listen(chart) {
  let drag = null;
  const place = event => {
    const box = chart.plot.getBoundingClientRect(), part = (event.clientX - box.left - MARGIN.left) / chart.inner.width;
    return chart.from + Math.min(1, Math.max(0, part)) * (chart.to - chart.from);
  };
  chart.plot.addEventListener('pointermove', event => {
    const at = place(event);
    pointAt(at, chart, event);
    if (drag === null) return;
    const a = chart.px(Math.min(drag, at)), b = chart.px(Math.max(drag, at));
    chart.plot.querySelector('.over').innerHTML += '<rect class="zoom" x="' + a + '" width="' + (b - a) + '" y="' + MARGIN.top + '" height="' + chart.inner.height + '"/>';
  });
  chart.plot.addEventListener('pointerleave', () => (drag = null, pointAt(null)));
  chart.plot.addEventListener('pointerdown', event => { if (event.pointerType === 'mouse') drag = place(event); });
  chart.plot.addEventListener('pointerup', event => {
    const at = place(event), start = drag;
    drag = null;
    if (start !== null && Math.abs(at - start) > (chart.to - chart.from) / 100) zoom(Math.min(start, at), Math.max(start, at));
  });
  chart.plot.addEventListener('dblclick', () => zoom(null, null));
}

function zoom(from, to) {
  Object.assign(state, { from, to });
  document.getElementById('whole').hidden = from === null;
  charts.forEach(draw);
}

// ---- the page
function build() {
  const place = document.getElementById('charts');
  for (const [name, list] of sections()) {
    const grid = document.createElement('div');
    grid.className = 'grid';
    const title = document.createElement('h2');
    title.textContent = name;
    place.append(title, grid);
    for (const chart of list) {
      const figure = document.createElement('figure');
      chart.isFirst = chart.name === 'loss', chart.id = charts.length;
      figure.className = chart.isFirst ? 'chart first' : 'chart';
      figure.innerHTML = '<figcaption><b>' + escape(chart.title) + '</b><small>' + escape(data.meaning[chart.name] || '') + '</small><button aria-pressed="false">log</button></figcaption>' +
        '<div class="values"></div><div class="plot"></div>';
      chart.plot = figure.querySelector('.plot'), chart.values = figure.querySelector('.values');
      figure.querySelector('button').addEventListener('click', event => {
        state.log.has(chart.name) ? state.log.delete(chart.name) : state.log.add(chart.name);
        event.target.setAttribute('aria-pressed', state.log.has(chart.name));
        draw(chart);
      });
      grid.append(figure);
      charts.push(chart);
      listen(chart);
    }
  }
  if (!charts.length) place.innerHTML = '<p class="sub">There is nothing to draw yet.</p>';
  new ResizeObserver(() => charts.forEach(draw)).observe(place);
}

function controls() {
  const place = document.getElementById('controls');
  place.innerHTML = data.runs.map((run, index) => '<button class="key" aria-pressed="true" data-run="' + index + '"><i style="background:' + colour(index) + '"></i>' + escape(run.name) + '</button>').join('') +
    '<label>smooth <input type="range" id="smooth" min="0" max="0.98" step="0.02" value="' + state.smooth + '"><output>' + state.smooth + '</output></label>' +
    '<label>along <select id="by"><option value="step">steps</option><option value="tokens">tokens</option><option value="seconds">time</option></select></label>' +
    '<button id="whole" hidden>whole run</button><span class="at"></span>';
  if (data.runs.length === 1) place.querySelector('.key').remove();
  place.querySelectorAll('.key').forEach(key => key.addEventListener('click', () => {
    const index = +key.dataset.run;
    state.hidden.has(index) ? state.hidden.delete(index) : state.hidden.add(index);
    key.setAttribute('aria-pressed', !state.hidden.has(index));
    charts.forEach(draw);
  }));
  place.querySelector('#smooth').addEventListener('input', event => {
    state.smooth = +event.target.value;
    place.querySelector('output').textContent = state.smooth;
    charts.forEach(draw);
  });
  place.querySelector('#by').addEventListener('change', event => {
    state.by = event.target.value;
    zoom(null, null);
  });
  place.querySelector('#whole').addEventListener('click', () => zoom(null, null));
}

function numbers() {
  const place = document.getElementById('numbers'), names = [...new Set([...training, ...evaluation])].sort();
  const of = (run, name) => {
    const list = values(run, name).filter(value => value !== null);
    if (!list.length) return ['', '', '', ''];
    const low = list.reduce((a, b) => Math.min(a, b)), high = list.reduce((a, b) => Math.max(a, b));
    return [list[0], list[list.length - 1], low, high].map(value => words(name, value));
  };
  place.innerHTML = '<input type="search" placeholder="find a number" aria-label="find a number"><div class="wide"><table><thead><tr><th>name</th>' +
    data.runs.map((run, index) => ['first', 'last', 'lowest', 'highest'].map((what, order) => '<th>' + (order || data.runs.length < 2 ? '' : '<span class="key"><i style="background:' + colour(index) + '"></i></span>') + what + '</th>').join('')).join('') +
    '</tr></thead><tbody>' + names.map(name => '<tr data-name="' + escape(name) + '"><td>' + escape(name) + '<small>' + escape(data.meaning[name] || '') + '</small></td>' +
      data.runs.map(run => of(run, name).map(value => '<td>' + value + '</td>').join('')).join('') + '</tr>').join('') + '</tbody></table></div>';
  place.querySelector('input').addEventListener('input', event => {
    for (const row of place.querySelectorAll('tbody tr')) row.hidden = !row.dataset.name.includes(event.target.value.trim());
  });
}

controls();
build();
numbers();
charts.forEach(draw);
if (asked.has('step') && charts.length) {  // page.html#step=120 points at a step
  const chart = charts[0], box = chart.plot.getBoundingClientRect();
  pointAt(+asked.get('step'), chart, { clientX: box.left + chart.px(+asked.get('step')), clientY: box.top + 60 });
}
document.addEventListener('keydown', event => {  // arrows go from line to line
  const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!way || state.at === null || /INPUT|SELECT/.test(event.target.tagName)) return;
  const x = data.runs.find((run, index) => !state.hidden.has(index)).x[state.by];
  pointAt(x[Math.min(x.length - 1, Math.max(0, nearest(x, state.at) + way))]);
});
