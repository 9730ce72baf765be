// The timeline: machines as lanes, messages as arrows, and everything else that a run shows on the same axis.
//
// The axis is true time, or the order of events. An *item* is what stands at one place of a lane: the sending, arrival or loss
// of a message, or a point. `line` is an item's place in the run's trace. What is drawn is what passes the filters.

const KINDS = { message: 'messages', fact: 'facts', timer: 'timers', flush: 'flushes', bar: 'locks and doubt' };
const MARKS = { boot: '△', timer: '◔', flush: '▮', 'flush-failed': '▯', fact: '●', panic: '✱', halt: '■', crash: '⚡', restart: '▲' };
const NOISE = ['boot', 'timer', 'flush'];

/** Builds the timeline of a run. `told` is called when the selection or the view has changed. */
function timeline(run, told) {
  const items = [];
  run.messages.forEach((m, at) => {
    items.push({ line: m[5], ms: m[6], machine: run.processes[m[0]][0], type: 'send', at });
    for (const [line, ms] of m[7]) items.push({ line, ms, machine: run.processes[m[1]][0], type: 'arrive', at });
    if (m[8]) items.push({ line: m[8][0], ms: m[8][1], machine: run.processes[m[1]][0], type: 'lost', at });
  });
  run.points.forEach((p, at) => items.push({ line: p[3], ms: p[4], machine: p[1], type: 'point', at }));
  items.sort((a, b) => a.line - b.line);
  const byLine = new Map(items.map((item) => [item.line, item]));
  const start = run.shown.from > 0 && items.length ? items[0].ms : -run.origin_ms;
  const end = run.shown.to < run.shown.lines && items.length ? items[items.length - 1].ms : run.end_ms;
  const txnOf = new Map(run.transactions.map((txn, at) => [txn.name, at]));

  const state = { mode: 'time', a: run.focus.from_ms, b: run.focus.to_ms, line: null, txn: null, fold: 'own', query: '',
    show: { message: true, fact: true, timer: false, flush: true, bar: true } };
  let seen = [], lanes = [], hover = null, kept = null, messagesSeen = [], ranks = new Map();

  // ---- what is an item about, in words

  const txnsOf = (item) => (item.type === 'point' ? run.points[item.at][7] : run.messages[item.at][4]);
  const nameOf = (machine) => (machine < 0 ? 'the world' : run.machines[machine].name);
  const processName = (process) => {
    const [machine, port] = run.processes[process];
    return nameOf(machine) + (port ? ':' + port : '');
  };
  const kindOf = (item) => {
    if (item.type !== 'point') return 'message';
    const kind = run.points[item.at][0];
    return kind === 'flush' || kind === 'timer' || kind === 'fact' ? kind : 'always';
  };
  function words(item) {
    if (item.type === 'point') {
      const p = run.points[item.at];
      const what = p[0] === 'timer' ? 'timer' : run.strings[p[5]];
      return { title: `${nameOf(item.machine)}: ${what}`, detail: run.strings[p[6]] };
    }
    const m = run.messages[item.at];
    const [label, from, to] = [run.strings[m[2]], processName(m[0]), processName(m[1])];
    const copies = m[7].length > 1 ? `, arrives ${m[7].length} times` : '';
    const title = { send: `${label} sent: ${from} → ${to}${copies}`, arrive: `${label} arrives: ${from} → ${to}`,
      lost: `${label} LOST: ${from} → ${to} (${m[8] ? m[8][2] : ''})` }[item.type];
    return { title, detail: run.strings[m[3]] };
  }
  const haystacks = new Map();
  function haystack(item) {
    const key = item.type === 'point' ? 'p' + item.at : 'm' + item.at;
    if (!haystacks.has(key)) {
      const said = words(item);
      haystacks.set(key, `${said.title} ${said.detail} ${txnsOf(item).map((at) => run.transactions[at].name).join(' ')}`.toLowerCase());
    }
    return haystacks.get(key);
  }

  // ---- causes: who could have known (Lamport's happened-before, machine by machine)

  /** The lines that led to the last of these, or followed from the first. */
  function cone(lines, backwards) {
    const marked = new Set(lines), sendOf = new Map(), arrivals = new Map();
    run.messages.forEach((m) => {
      for (const [line] of m[7]) sendOf.set(line, m[5]);
      arrivals.set(m[5], m[7].map(([line]) => line));
    });
    const reached = new Set();
    const order = backwards ? [...items].reverse() : items;
    for (const item of order) {
      if (item.machine < 0) continue;
      if (marked.has(item.line)) reached.add(item.machine);
      else if (item.type !== 'lost' && reached.has(item.machine)) marked.add(item.line);
      if (!marked.has(item.line)) continue;
      const other = backwards ? [sendOf.get(item.line)] : arrivals.get(item.line) || [];
      for (const line of other) if (line !== undefined) marked.add(line);
    }
    return marked;
  }

  function chosen() {
    if (state.fold === 'all' || (state.txn === null && state.line === null)) return null;
    if (state.txn === null && state.fold === 'own') return null;
    const own = state.txn !== null ? items.filter((item) => txnsOf(item).includes(state.txn)).map((item) => item.line) : [state.line];
    if (state.fold === 'own') return new Set(own);
    const from = state.line !== null && (state.txn === null || own.includes(state.line)) ? [state.line] : own;
    const ends = state.fold === 'past' ? [Math.max(...from)] : [Math.min(...from)];
    return from.length ? cone(ends, state.fold === 'past') : new Set();
  }

  /** Decides what is drawn. */
  function sift() {
    kept = chosen();
    const query = state.query.trim().toLowerCase();
    seen = items.filter((item) => {
      const kind = kindOf(item);
      if (item.line === state.line) return true;
      if (kind !== 'always' && !state.show[kind]) return false;
      if (item.machine < 0) return !query;
      const incident = item.type === 'point' && ['crash', 'restart', 'panic', 'halt'].includes(run.points[item.at][0]);
      if (kept && !kept.has(item.line) && !incident) return false;
      return !query || haystack(item).includes(query);
    });
    if (kept || query) {
      // A crash says something only of machines that take part.
      const part = new Set(seen.filter((item) => kept ? kept.has(item.line) : true).map((item) => item.machine));
      seen = seen.filter((item) => item.machine < 0 || part.has(item.machine));
    }
    ranks = new Map(seen.map((item, at) => [item.line, at]));
    messagesSeen = [...new Set(seen.filter((item) => item.type !== 'point').map((item) => item.at))];
    layLanes();
  }

  // ---- lanes

  function layLanes() {
    const active = new Set(seen.map((item) => item.machine));
    const regions = [...new Set(run.machines.map((machine) => machine.region))];
    const order = run.machines.map((_, at) => at).filter((at) => active.has(at));
    order.sort((a, b) => regions.indexOf(run.machines[a].region) - regions.indexOf(run.machines[b].region)
      || run.machines[b].client - run.machines[a].client || a - b);
    let y = 4;
    lanes = order.map((machine) => {
      const client = run.machines[machine].client;
      const rows = client ? stack(operationsOf(machine), 6) : stack(barsOf(machine), 4);
      const depth = rows.length ? Math.max(...rows.map((row) => row.row)) + 1 : 0;
      const lane = { machine, client, top: y, y: y + 24, rows, height: 36 + depth * (client ? 12 : 9) };
      y += lane.height;
      return lane;
    });
    height = y + 6;
    laneOf.clear();
    for (const lane of lanes) laneOf.set(lane.machine, lane);
  }
  const laneOf = new Map();
  let height = 100;

  function operationsOf(machine) {
    const region = run.machines[machine].region;
    const mine = run.transactions.map((txn, at) => ({ txn, at })).filter(({ txn }) => txn.region === region && txn.invoked_ms !== null);
    const wanted = kept && state.txn !== null && state.fold === 'own' ? mine.filter(({ at }) => at === state.txn) : mine;
    return wanted.map(({ txn, at }) => ({ from: txn.asked_ms ?? txn.invoked_ms, to: txn.returned_ms, txn: at, kind: txn.outcome || 'unknown' }));
  }

  function barsOf(machine) {
    if (!state.show.bar) return [];
    const rivals = state.txn === null || state.fold === 'all' ? null : rivalsOf(state.txn);
    return run.bars.filter((bar) => bar.machine === machine && (!rivals || rivals.has(bar.txn)))
      .map((bar) => ({ from: bar.from_ms, to: bar.to_ms, txn: bar.txn, kind: bar.kind, what: bar.what }));
  }

  /** A transaction with those that waited while it held locks, or held what it waited for. */
  function rivalsOf(txn) {
    const found = new Set([txn]);
    const far = (bar) => bar.to_ms ?? Infinity;
    const own = run.bars.filter((bar) => bar.txn === txn);
    for (const mine of own) {
      for (const bar of run.bars) {
        const together = bar.machine === mine.machine && bar.from_ms < far(mine) && mine.from_ms < far(bar);
        if (together && (bar.kind === 'wait') !== (mine.kind === 'wait')) found.add(bar.txn);
      }
    }
    return found;
  }

  /** Gives stretches rows in which they do not overlap; what finds no row shares the last. */
  function stack(stretches, most) {
    const ends = [];
    return stretches.sort((a, b) => a.from - b.from).map((stretch) => {
      let row = ends.findIndex((ended) => ended <= stretch.from);
      if (row < 0) row = ends.length < most ? ends.length : most - 1;
      ends[row] = Math.max(ends[row] ?? -Infinity, stretch.to ?? Infinity);
      return { ...stretch, row };
    });
  }

  // ---- the axis

  let width = 800;
  const unit = (item) => (state.mode === 'time' ? item.ms : ranks.get(item.line));
  const x = (at) => ((at - state.a) / (state.b - state.a)) * width;
  const xOf = (item) => x(unit(item));
  function rankAt(ms) {
    let low = 0, high = seen.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (seen[middle].ms < ms) low = middle + 1; else high = middle;
    }
    return low - 0.5;
  }
  const xAt = (ms) => x(state.mode === 'time' ? ms : rankAt(ms));
  const bounds = () => (state.mode === 'time' ? [start, end] : [-1, Math.max(1, seen.length)]);
  function span(a, b) {
    const [low, high] = bounds();
    const least = state.mode === 'time' ? 0.05 : 3;
    const size = Math.min(Math.max(b - a, least), high - low || 1);
    const from = Math.min(Math.max((a + b) / 2 - size / 2, low), high - size);
    [state.a, state.b] = [from, from + size];
  }
  function zoom(factor, around = (state.a + state.b) / 2) {
    span(around - (around - state.a) * factor, around + (state.b - around) * factor);
    changed();
  }
  /** The items in view: they stand in order of time, and of rank. */
  function inView() {
    const bound = (of) => {
      let low = 0, high = seen.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if ((state.mode === 'time' ? seen[middle].ms : middle) < of) low = middle + 1; else high = middle;
      }
      return low;
    };
    return seen.slice(bound(state.a), bound(state.b + 1e-9));
  }
  function showItem(item) {
    const at = unit(item);
    if (at === undefined) return;
    const size = state.b - state.a;
    if (at < state.a + size * 0.05 || at > state.b - size * 0.05) span(at - size / 2, at + size / 2);
    const lane = laneOf.get(item.machine);
    if (lane && (lane.y < scroller.scrollTop + 10 || lane.y > scroller.scrollTop + scroller.clientHeight - 30)) {
      scroller.scrollTop = lane.y - scroller.clientHeight / 2;
    }
  }
  function setMode(mode) {
    if (mode === state.mode) return;
    if (mode === 'order') {
      const [a, b] = [rankAt(state.a), rankAt(state.b)];
      state.mode = mode;
      const middle = state.line !== null && ranks.has(state.line) ? ranks.get(state.line) : (a + b) / 2;
      const size = Math.min(Math.max(b - a, 12), 60);
      span(middle - size / 2, middle + size / 2);
    } else {
      const within = inView();
      state.mode = mode;
      const [first, last] = [within[0], within[within.length - 1]];
      if (first) { const room = Math.max((last.ms - first.ms) * 0.05, 0.5); span(first.ms - room, last.ms + room); }
      else span(start, end);
    }
    changed();
  }

  // ---- drawing

  const mini = el('canvas', { class: 'small', height: 40, 'aria-hidden': 'true' });
  const top = el('canvas', { 'aria-hidden': 'true' });
  const main = el('canvas', { tabindex: 0, role: 'application', id: 'lanes',
    'aria-label': 'Timeline. Left and right step from event to event, up and down stay on a machine, plus and minus zoom, Enter picks the transaction, '
      + 'o changes between time and order, f goes to the failure, a shows all, Escape lets go. The events in view are listed below.' });
  const scroller = el('div', { class: 'lanes' }, main);
  const tip = el('div', { class: 'tip', hidden: true });
  const stage = el('div', { class: 'stage' }, mini, top, scroller, tip);
  const live = el('p', { class: 'hidden', 'aria-live': 'polite' });

  function context(canvas, tall) {
    const ratio = window.devicePixelRatio || 1;
    const wide = canvas.clientWidth || width;
    if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(tall * ratio)) {
      canvas.width = Math.round(wide * ratio);
      canvas.height = Math.round(tall * ratio);
      canvas.style.height = tall + 'px';
    }
    const g = canvas.getContext('2d');
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, wide, tall);
    g.font = '11px system-ui, "DejaVu Sans", sans-serif';
    g.textBaseline = 'alphabetic';
    return g;
  }
  function label(g, text, at, y, colour, most = 260) {
    let shown = visible(text);
    if (g.measureText(shown).width > most) {
      while (shown.length > 1 && g.measureText(shown + '…').width > most) shown = shown.slice(0, Math.ceil(shown.length * 0.9) - 1);
      shown += '…';
    }
    g.fillStyle = colour;
    g.direction = 'ltr';
    g.fillText('\u2066' + shown + '\u2069', at, y);
    return g.measureText(shown).width;
  }

  let load = null;
  function drawMini(of) {
    const g = context(mini, 40), wide = mini.clientWidth;
    const at = (ms) => ((ms - start) / (end - start || 1)) * wide;
    if (!load || load.length !== Math.max(1, Math.floor(wide / 2))) {
      load = new Float64Array(Math.max(1, Math.floor(wide / 2)));
      for (const item of items) load[Math.min(load.length - 1, Math.max(0, Math.floor(at(item.ms) / 2)))]++;
    }
    const bins = load;
    const most = Math.max(...bins, 1);
    for (const fault of run.faults) {
      if (fault.from_ms === null) continue;
      g.fillStyle = of('fault');
      g.fillRect(at(fault.from_ms), 0, Math.max(2, at(fault.to_ms ?? end) - at(fault.from_ms)), 40);
    }
    g.fillStyle = of('msg');
    bins.forEach((n, bin) => { if (n) { const tall = 3 + 27 * (Math.log(1 + n) / Math.log(1 + most)); g.fillRect(bin * 2, 38 - tall, 1.5, tall); } });
    if (run.focus.line !== null && byLine.has(run.focus.line)) {
      const where = at(byLine.get(run.focus.line).ms);
      g.fillStyle = of('pick');
      g.beginPath(); g.moveTo(where - 5, 0); g.lineTo(where + 5, 0); g.lineTo(where, 8); g.fill();
    }
    const [a, b] = viewMs();
    g.strokeStyle = of('link'); g.lineWidth = 2;
    g.strokeRect(Math.max(1, at(a)), 1, Math.max(4, Math.min(at(b), wide - 1) - Math.max(1, at(a))), 38);
  }
  function viewMs() {
    if (state.mode === 'time') return [state.a, state.b];
    const pick = (rank) => seen[Math.min(seen.length - 1, Math.max(0, Math.round(rank)))];
    return seen.length ? [pick(state.a).ms, pick(state.b).ms] : [start, end];
  }

  const counts = series(run);
  function drawTop(of) {
    const rows = Math.min(faultRows.most, 4);
    const tall = 22 + rows * 13 + 42 + 52 + 40;
    const g = context(top, tall);
    axis(g, of, 14);
    let y = 22;
    for (const fault of faultRows.all) {
      if (fault.row >= 4) continue;
      const [from, to] = [Math.max(0, xAt(fault.from)), Math.min(width, xAt(fault.to ?? end))];
      if (to < 0 || from > width) continue;
      g.fillStyle = of('fault-line');
      g.globalAlpha = 0.25; g.fillRect(from, y + fault.row * 13, Math.max(2, to - from), 11); g.globalAlpha = 1;
      g.fillRect(from, y + fault.row * 13, 2, 11);
      if (width - from > 60) label(g, fault.text, from + 5, y + fault.row * 13 + 9, of('text'), Math.max(60, Math.min(to - from > 120 ? to - from - 8 : width - from - 8, 420)));
    }
    y += rows * 13;
    bands(g, of, y, tall);
    // Answers a second.
    const bins = Math.max(20, Math.floor(width / 7)), [va, vb] = [state.a, state.b];
    const tally = { committed: new Float64Array(bins), other: new Float64Array(bins) };
    for (const txn of run.transactions) {
      if (txn.returned_ms === null || txn.outcome === 'unknown') continue;
      const bin = Math.floor((xAt(txn.returned_ms) / width) * bins);
      if (bin >= 0 && bin < bins) tally[txn.outcome === 'committed' ? 'committed' : 'other'][bin]++;
    }
    const most = Math.max(1, ...tally.committed.map((n, at) => n + tally.other[at]));
    const step = width / bins;
    for (let at = 0; at < bins; at++) {
      const up = (tally.committed[at] / most) * 28, more = (tally.other[at] / most) * 28;
      g.fillStyle = of('committed'); g.fillRect(at * step, y + 40 - up, step - 1, up);
      g.fillStyle = of('aborted'); g.fillRect(at * step, y + 40 - up - more, step - 1, more);
    }
    const per = state.mode === 'time' && (vb - va) / bins > 20 ? ` (at most ${digits(most / ((vb - va) / bins / 1000), 1)} a second)` : '';
    plate(g, of, 'answers' + per, y + 11);
    y += 42;
    // Latency on a logarithmic scale.
    const [low, high] = counts.latency, span10 = Math.log10(high / low) || 1;
    for (const txn of run.transactions) {
      if (txn.asked_ms === null) continue;
      const at = xAt(txn.asked_ms);
      if (at < -4 || at > width + 4) continue;
      const open = txn.returned_ms === null;
      const ms = open ? high : Math.max(low, txn.returned_ms - txn.asked_ms);
      const up = y + 48 - (Math.log10(ms / low) / span10) * 34;
      shape(g, of, open ? 'unknown' : txn.outcome, at, up);
    }
    plate(g, of, `latency, ${duration(low)} to ${duration(high)}, log`, y + 11);
    y += 52;
    // Open and in doubt.
    line(g, of('s0'), counts.open, y, counts.openMost);
    line(g, of('doubt'), counts.doubt, y, counts.openMost);
    line(g, of('bad'), counts.blocked, y, counts.openMost);
    plate(g, of, `under way (blue), in doubt (orange), blocked (red): at most ${counts.openMost}`, y + 11);
    cursor(g, of, 16, tall);
  }
  function line(g, colour, points, y, most) {
    g.strokeStyle = colour; g.lineWidth = 1.4; g.beginPath();
    let last = 0;
    g.moveTo(0, y + 36);
    for (const [ms, count] of points) {
      const at = Math.min(Math.max(xAt(ms), -2), width + 2);
      g.lineTo(at, y + 36 - (last / most) * 26); g.lineTo(at, y + 36 - (count / most) * 26);
      last = count;
    }
    g.lineTo(width + 2, y + 36 - (last / most) * 26);
    g.stroke();
  }
  function plate(g, of, text, y) {
    g.globalAlpha = 0.78; g.fillStyle = of('bg'); g.fillRect(2, y - 10, g.measureText(text).width + 6, 13); g.globalAlpha = 1;
    label(g, text, 5, y, of('dim'), width - 10);
  }
  /** Outcomes differ in shape, not only in colour. */
  function shape(g, of, outcome, at, y) {
    g.strokeStyle = g.fillStyle = of(outcome || 'unknown'); g.lineWidth = 1.4;
    g.beginPath();
    if (outcome === 'committed') { g.arc(at, y, 1.8, 0, 7); g.fill(); }
    else if (outcome === 'aborted') { g.moveTo(at - 3, y - 3); g.lineTo(at + 3, y + 3); g.moveTo(at + 3, y - 3); g.lineTo(at - 3, y + 3); g.stroke(); }
    else if (outcome === 'declined') { g.arc(at, y, 2.4, 0, 7); g.stroke(); }
    else { g.moveTo(at - 3, y + 3); g.lineTo(at + 3, y + 3); g.lineTo(at, y - 3); g.closePath(); g.stroke(); }
  }
  function axis(g, of, y) {
    g.strokeStyle = of('line'); g.lineWidth = 1;
    if (state.mode === 'time') {
      for (const at of steps(state.a, state.b, Math.max(3, Math.floor(width / 110)))) {
        const where = x(at), wide = state.b - state.a >= 10000;
        g.beginPath(); g.moveTo(where, y + 4); g.lineTo(where, y + 8); g.stroke();
        const text = wide ? (at > 0 ? '+' : '') + digits(at / 1000) + ' s' : (at > 0 ? '+' : '') + digits(at, 4) + ' ms';
        if (where > 4 && where < width - 40) label(g, text, where + 2, y, of('dim'));
      }
      return;
    }
    for (const at of steps(Math.max(0, state.a), state.b, Math.max(2, Math.floor(width / 130)))) {
      const item = seen[Math.round(at)];
      if (item && Math.abs(at - Math.round(at)) < 1e-6) label(g, `#${item.line} (${instant(item.ms)})`, x(at) + 2, y, of('dim'));
    }
  }
  function bands(g, of, from, to) {
    for (const fault of run.faults) {
      if (fault.from_ms === null) continue;
      const [a, b] = [xAt(fault.from_ms), xAt(fault.to_ms ?? end)];
      if (b < 0 || a > width) continue;
      g.fillStyle = of('fault'); g.fillRect(Math.max(0, a), from, Math.max(1, Math.min(b, width) - Math.max(0, a)), to - from);
    }
    if (run.settle_ms !== null) {
      const at = xAt(run.settle_ms);
      g.strokeStyle = of('dim'); g.setLineDash([2, 3]); g.beginPath(); g.moveTo(at, from); g.lineTo(at, to); g.stroke(); g.setLineDash([]);
    }
  }
  function cursor(g, of, from, to) {
    const item = state.line !== null && byLine.get(state.line);
    if (!item || !ranks.has(item.line)) return;
    g.strokeStyle = of('pick'); g.lineWidth = 1; g.beginPath(); g.moveTo(xOf(item), from); g.lineTo(xOf(item), to); g.stroke();
  }

  function drawMain(of) {
    const g = context(main, height);
    bands(g, of, 0, height);
    cursor(g, of, 0, height);
    for (const lane of lanes) {
      g.strokeStyle = of('line'); g.lineWidth = 1;
      g.beginPath(); g.moveTo(0, lane.y + 0.5); g.lineTo(width, lane.y + 0.5); g.stroke();
      down(g, of, lane);
      const last = [];
      for (const row of lane.rows) bar(g, of, lane, row, last);
    }
    const drawn = [];
    for (const at of messagesSeen) {
      const m = run.messages[at], from = laneOf.get(run.processes[m[0]][0]), to = laneOf.get(run.processes[m[1]][0]);
      if (!from || !to) continue;
      const place = (line, ms) => (state.mode === 'time' ? x(ms) : ranks.has(line) ? x(ranks.get(line)) : xAt(ms));
      const x0 = place(m[5], m[6]);
      const ends = m[7].map(([line, ms]) => place(line, ms));
      const last = Math.max(x0, ...ends, m[8] ? place(m[8][0], m[8][1]) : x0);
      if (last < 0 || x0 > width) continue;
      drawn.push({ at, m, from, to, x0, ends, lost: m[8] ? place(m[8][0], m[8][1]) : null });
    }
    const crowded = drawn.length > 900, roomy = drawn.length <= 70;
    if (crowded) {
      // Thousands of lines are one shape: that is fast, and nobody can tell them apart.
      g.globalAlpha = 0.2; g.strokeStyle = of('msg'); g.lineWidth = 1; g.beginPath();
      let count = 0;
      for (const { from, to, x0, ends } of drawn) {
        for (const x1 of ends) { g.moveTo(x0, from.y); g.lineTo(x1, to.y); }
        if (++count % 2000 === 0) { g.stroke(); g.beginPath(); }
      }
      g.stroke(); g.globalAlpha = 1;
    }
    for (const { at, m, from, to, x0, ends, lost } of drawn) {
      if (crowded && lost === null && !(state.txn !== null && m[4].includes(state.txn)) && !(hover && hover.type !== 'point' && hover.at === at)) continue;
      const picked = state.txn !== null && m[4].includes(state.txn);
      const near = hover && hover.type !== 'point' && hover.at === at;
      g.globalAlpha = picked || near ? 1 : crowded ? 0.16 : 0.75;
      g.lineWidth = near ? 2.4 : picked ? 1.6 : 1;
      g.strokeStyle = g.fillStyle = picked ? of('pick') : of('msg');
      ends.forEach((x1, copy) => {
        g.setLineDash(copy ? [4, 3] : []);
        g.beginPath(); g.moveTo(x0, from.y); g.lineTo(x1, to.y); g.stroke();
        if (!crowded) head(g, x0, from.y, x1, to.y);
      });
      g.setLineDash([]);
      if (lost !== null && drawn.length > 6000) {
        g.globalAlpha = 0.5; g.fillStyle = of('lost'); g.fillRect(x0 - 1, from.y + (to.y - from.y) * 0.62 - 1, 3, 3);
      } else if (lost !== null) {
        g.globalAlpha = crowded ? 0.6 : 1;
        const part = 0.62, [x1, y1] = [x0 + (Math.max(lost, x0 + 8) - x0) * part, from.y + (to.y - from.y) * part];
        g.strokeStyle = of('lost'); g.lineWidth = 1.4;
        g.beginPath(); g.moveTo(x0, from.y); g.lineTo(x1, y1); g.stroke();
        g.lineWidth = 2; g.beginPath(); g.moveTo(x1 - 4, y1 - 4); g.lineTo(x1 + 4, y1 + 4); g.moveTo(x1 + 4, y1 - 4); g.lineTo(x1 - 4, y1 + 4); g.stroke();
        if (roomy) label(g, m[8][2], x1 + 7, y1 + 4, of('lost'), 130);
      }
      g.globalAlpha = 1;
    }
    if (roomy) words_on_arrows(g, of, drawn);
    points(g, of);
    for (const lane of lanes) {
      const text = visible(run.machines[lane.machine].name);
      const wide = Math.min(g.measureText(text).width, width * 0.6);
      g.globalAlpha = 0.85; g.fillStyle = of('bg'); g.fillRect(2, lane.top + 1, wide + 6, 14); g.globalAlpha = 1;
      g.font = '600 11px system-ui, "DejaVu Sans", sans-serif';
      label(g, text, 5, lane.top + 12, lane.machine === run.focus.machine ? of('pick') : of('text'), width * 0.6);
      g.font = '11px system-ui, "DejaVu Sans", sans-serif';
    }
    if (!seen.length) label(g, 'Nothing passes the filters.', 10, 40, of('dim'));
  }
  function words_on_arrows(g, of, drawn) {
    const taken = [];
    for (const { m, from, to, x0, ends } of drawn) {
      const x1 = ends.length ? ends[0] : x0 + 14;
      const text = run.strings[m[2]], wide = g.measureText(text).width;
      const [cx, cy] = [x0 + (x1 - x0) * 0.5 + 4, from.y + (to.y - from.y) * 0.5 - 2];
      if (from === to || cx < 0 || cx + wide > width) continue;
      if (taken.some(([a, b]) => Math.abs(b - cy) < 11 && a[0] < cx + wide && cx < a[1])) continue;
      taken.push([[cx, cx + wide], cy]);
      g.globalAlpha = 0.75; g.fillStyle = of('bg'); g.fillRect(cx - 1, cy - 9, wide + 2, 11); g.globalAlpha = 1;
      label(g, text, cx, cy, of('dim'));
    }
  }
  function head(g, x0, y0, x1, y1) {
    const angle = Math.atan2(y1 - y0, x1 - x0);
    if (Math.hypot(x1 - x0, y1 - y0) < 8) return;
    g.beginPath(); g.moveTo(x1, y1);
    g.lineTo(x1 - 7 * Math.cos(angle - 0.35), y1 - 7 * Math.sin(angle - 0.35));
    g.lineTo(x1 - 7 * Math.cos(angle + 0.35), y1 - 7 * Math.sin(angle + 0.35)); g.fill();
  }
  /** The stretches in which a machine was down. */
  function down(g, of, lane) {
    for (const [from, to] of downs.get(lane.machine) || []) {
      const [a, b] = [Math.max(0, xAt(from)), Math.min(width, xAt(to ?? end))];
      if (b <= 0 || a >= width) continue;
      g.fillStyle = of('down'); g.fillRect(a, lane.top + 16, Math.max(2, b - a), 16);
      if (b - a > 40) label(g, 'down', a + 5, lane.y + 7, of('text'));
    }
  }
  /** Stripes in a colour, made once for each. */
  const stripes = new Map();
  function striped(g, colour) {
    if (!stripes.has(colour)) {
      const tile = document.createElement('canvas');
      tile.width = tile.height = 6;
      const t = tile.getContext('2d');
      t.fillStyle = t.strokeStyle = colour;
      t.globalAlpha = 0.3; t.fillRect(0, 0, 6, 6);
      t.globalAlpha = 1; t.lineWidth = 1.6;
      for (const by of [-6, 0, 6]) { t.beginPath(); t.moveTo(by - 1, 7); t.lineTo(by + 7, -1); t.stroke(); }
      stripes.set(colour, g.createPattern(tile, 'repeat'));
    }
    return stripes.get(colour);
  }
  function bar(g, of, lane, row, last) {
    const [from, to] = [xAt(row.from), row.to === null ? width + 20 : xAt(row.to)];
    if (to < 0 || from > width) return;
    const [a, b] = [Math.max(-4, from), Math.min(width + 4, to)];
    // What ends within a pixel that is drawn already shows nothing new.
    if (b <= (last[row.row] ?? -9) && row.txn !== state.txn) return;
    last[row.row] = Math.max(Math.ceil(b), a + 1.5);
    const thick = lane.client ? 10 : 7, y = lane.y + 9 + row.row * (thick + 2);
    const picked = row.txn === state.txn;
    g.globalAlpha = state.txn === null || picked ? 0.9 : 0.4;
    g.fillStyle = g.strokeStyle = of(row.kind);
    if (row.kind === 'doubt' || row.kind === 'unknown') {
      g.fillStyle = striped(g, of(row.kind));
      g.fillRect(a, y, Math.max(2, b - a), thick);
    } else if (row.kind === 'wait') { g.setLineDash([3, 3]); g.lineWidth = 2; g.beginPath(); g.moveTo(a, y + thick / 2); g.lineTo(b, y + thick / 2); g.stroke(); g.setLineDash([]); }
    else g.fillRect(a, y, Math.max(2, b - a), thick);
    if (picked) { g.globalAlpha = 1; g.strokeStyle = of('pick'); g.lineWidth = 1.5; g.strokeRect(a, y, Math.max(2, b - a), thick); }
    g.globalAlpha = 1;
    if (lane.client && b - a > 24) label(g, run.transactions[row.txn].name, Math.max(a, 0) + 3, y + 9, row.kind === 'unknown' ? of('text') : of('bg'), b - a - 4);
    if (!lane.client && picked && b - a > 90) {
      const said = row.kind === 'doubt' ? 'in doubt' : row.kind === 'lock' ? 'holds its locks' : 'waits for ' + row.what;
      label(g, `${run.transactions[row.txn].name} ${said}`, Math.max(a, 0) + 4, y + 7.5, of('text'), b - a - 8);
    }
  }
  function points(g, of) {
    const taken = new Map();
    const within = inView(), roomy = within.length < 260, packed = within.length > 5000, drawnAt = new Map();
    for (const item of within) {
      const lane = laneOf.get(item.machine);
      if (!lane) continue;
      const at = xOf(item);
      const here = item.line === state.line, near = hover && hover.line === item.line;
      if (item.type !== 'point') {
        if (here || near) ring(g, of, at, lane.y);
        continue;
      }
      const p = run.points[item.at], kind = p[0];
      const picked = state.txn !== null && p[7].includes(state.txn);
      if (packed && !picked && (kind === 'fact' || NOISE.includes(kind))) {
        if (drawnAt.get(item.machine) === Math.round(at)) continue;
        drawnAt.set(item.machine, Math.round(at));
        g.fillStyle = of('fact'); g.globalAlpha = 0.5; g.fillRect(at - 0.5, lane.y - 1.5, 1.5, 3); g.globalAlpha = 1;
        continue;
      }
      const bad = kind === 'crash' || kind === 'panic' || kind === 'halt' || kind === 'flush-failed';
      g.fillStyle = g.strokeStyle = picked ? of('pick') : bad ? of('lost') : NOISE.includes(kind) ? of('dim') : of('fact');
      if (kind === 'fact') { g.beginPath(); g.arc(at, lane.y, picked ? 4 : 2.8, 0, 7); g.fill(); }
      else { g.font = bad ? '600 15px "DejaVu Sans", sans-serif' : '10px "DejaVu Sans", sans-serif'; g.textAlign = 'center'; g.fillText(MARKS[kind] || '•', at, lane.y + (bad ? 5 : 3.5)); g.textAlign = 'left'; g.font = '11px system-ui, "DejaVu Sans", sans-serif'; }
      if (here || near) ring(g, of, at, lane.y);
      if (roomy && (kind === 'fact' || bad || here)) {
        const text = kind === 'fact' && p[7].length === 1 && state.txn === null ? `${run.strings[p[5]]} ${run.transactions[p[7][0]].name}` : run.strings[p[5]];
        const wide = g.measureText(text).width, free = taken.get(item.machine) ?? run.machines[item.machine].name.length * 6.4 + 8;
        if (at >= free || here) { label(g, text, Math.min(at + 4, width - wide - 2), lane.y - 6, picked ? of('pick') : of('dim')); taken.set(item.machine, at + wide + 8); }
      }
    }
  }
  function ring(g, of, at, y) {
    g.strokeStyle = of('pick'); g.lineWidth = 2; g.beginPath(); g.arc(at, y, 7, 0, 7); g.stroke();
  }

  const downs = new Map();
  for (const p of run.points) {
    if (p[0] === 'crash') { if (!downs.has(p[1])) downs.set(p[1], []); downs.get(p[1]).push([p[4], null]); }
    if (p[0] === 'restart' && downs.has(p[1])) downs.get(p[1])[downs.get(p[1]).length - 1][1] = p[4];
  }
  const faultRows = (() => {
    const struck = run.faults.filter((fault) => fault.from_ms !== null)
      .map((fault) => ({ from: fault.from_ms, to: fault.to_ms, text: fault.text.replace(/^.*?: /, '') }));
    const all = stack(struck, 4);
    return { all, most: all.length ? Math.max(...all.map((fault) => fault.row)) + 1 : 0 };
  })();

  let asked = false;
  function draw() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      width = main.clientWidth || stage.clientWidth || 800;
      const read = colours(), known = new Map();
      const of = (colour) => { if (!known.has(colour)) known.set(colour, read(colour)); return known.get(colour); };
      drawMini(of); drawTop(of); drawMain(of);
      stage.dataset.drawn = String(Number(stage.dataset.drawn || 0) + 1);
    });
  }
  function changed() { draw(); told(); }

  // ---- hands

  function nearest(event) {
    const box = main.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
    let best = null, least = 12;
    for (const item of inView()) {
      const lane = laneOf.get(item.machine);
      if (!lane) continue;
      const far = Math.hypot(xOf(item) - px, lane.y - py);
      if (far < least) [best, least] = [item, far];
    }
    if (best) return { item: best };
    for (const lane of lanes) {
      for (const row of lane.rows) {
        const thick = lane.client ? 10 : 7, y = lane.y + 9 + row.row * (thick + 2);
        if (py >= y && py <= y + thick && px >= xAt(row.from) - 2 && px <= (row.to === null ? width : xAt(row.to)) + 2) return { row, lane };
      }
    }
    return arrowNear(px, py);
  }
  function arrowNear(px, py) {
    let best = null, least = 5;
    for (const at of messagesSeen) {
      const m = run.messages[at], from = laneOf.get(run.processes[m[0]][0]), to = laneOf.get(run.processes[m[1]][0]);
      if (!from || !to || from === to || !m[7].length) continue;
      const place = (line, ms) => (state.mode === 'time' ? x(ms) : ranks.has(line) ? x(ranks.get(line)) : xAt(ms));
      const [x0, x1] = [place(m[5], m[6]), place(m[7][0][0], m[7][0][1])];
      if (px < Math.min(x0, x1) - 4 || px > Math.max(x0, x1) + 4) continue;
      const [dx, dy] = [x1 - x0, to.y - from.y], along = ((px - x0) * dx + (py - from.y) * dy) / (dx * dx + dy * dy || 1);
      if (along < 0 || along > 1) continue;
      const far = Math.hypot(px - x0 - along * dx, py - from.y - along * dy);
      if (far < least) [best, least] = [byLine.get(m[5]), far];
    }
    return best && { item: best };
  }
  function showTip(found, event) {
    if (!found) { tip.hidden = true; return; }
    const lines = [];
    if (found.item) {
      const said = words(found.item), names = txnsOf(found.item).map((at) => run.transactions[at].name);
      lines.push(el('b', {}, name(said.title)), el('div', {}, `${instant(found.item.ms)}, event ${found.item.line}${names.length ? ' · ' + names.slice(0, 6).join(', ') : ''}`));
      const m = found.item.type !== 'point' && run.messages[found.item.at];
      if (m && m[7].length) lines.push(el('div', {}, 'under way for ' + m[7].map(([, ms]) => duration(ms - m[6])).join(' and ')));
      if (said.detail) lines.push(el('div', { class: 'mono' }, name(said.detail)));
    } else {
      const { row } = found, txn = run.transactions[row.txn];
      const kinds = { doubt: 'is in doubt', lock: 'holds locks of', wait: 'waits for' };
      lines.push(el('b', {}, name(`${txn.name} ${kinds[row.kind] ? kinds[row.kind] + ' ' + (row.what || '') : row.kind}`)),
        el('div', {}, `${instant(row.from)} to ${row.to === null ? 'the end' : instant(row.to)}${row.to === null ? '' : ': ' + duration(row.to - row.from)}`), el('div', { class: 'mono' }, name(txn.text)));
    }
    tip.replaceChildren(...lines);
    tip.hidden = false;
    const box = stage.getBoundingClientRect();
    const left = Math.min(event.clientX - box.left + 14, box.width - tip.offsetWidth - 6), up = event.clientY - box.top + 16;
    tip.style.left = Math.max(4, left) + 'px';
    tip.style.top = (up + tip.offsetHeight > box.height ? Math.max(4, event.clientY - box.top - tip.offsetHeight - 12) : up) + 'px';
  }
  let drag = null;
  for (const canvas of [main, top]) {
    canvas.addEventListener('pointerdown', (event) => {
      drag = { x: event.clientX, a: state.a, b: state.b, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener('pointermove', (event) => {
      if (drag) {
        const by = ((event.clientX - drag.x) / width) * (drag.b - drag.a);
        if (Math.abs(event.clientX - drag.x) > 3) drag.moved = true;
        if (drag.moved) { tip.hidden = true; span(drag.a - by, drag.b - by); draw(); }
        return;
      }
      if (canvas !== main) return;
      const found = nearest(event);
      const before = hover;
      hover = found && found.item ? found.item : null;
      showTip(found, event);
      main.style.cursor = found ? 'pointer' : 'grab';
      if (before !== hover) draw();
    });
    canvas.addEventListener('pointerup', (event) => {
      const moved = drag && drag.moved;
      drag = null;
      if (moved) { told(); return; }
      if (canvas === main) {
        const found = nearest(event);
        if (found && found.item) pick(found.item);
        else if (found) pickTxn(found.row.txn);
      }
    });
    canvas.addEventListener('pointercancel', () => { drag = null; });
    canvas.addEventListener('wheel', (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.shiftKey) return;
      event.preventDefault();
      const box = canvas.getBoundingClientRect(), around = state.a + ((event.clientX - box.left) / width) * (state.b - state.a);
      zoom((event.deltaY || event.deltaX) > 0 ? 1.25 : 0.8, around);
    }, { passive: false });
    canvas.addEventListener('dblclick', (event) => {
      const box = canvas.getBoundingClientRect();
      zoom(0.4, state.a + ((event.clientX - box.left) / width) * (state.b - state.a));
    });
  }
  main.addEventListener('pointerleave', () => { tip.hidden = true; if (hover) { hover = null; draw(); } });
  let pressed = null;
  const miniMs = (event) => start + ((event.clientX - mini.getBoundingClientRect().left) / mini.clientWidth) * (end - start);
  mini.addEventListener('pointerdown', (event) => { pressed = miniMs(event); mini.setPointerCapture(event.pointerId); });
  mini.addEventListener('pointerup', (event) => {
    if (pressed === null) return;
    const [from, to] = [Math.min(pressed, miniMs(event)), Math.max(pressed, miniMs(event))];
    pressed = null;
    const [a, b] = viewMs(), size = Math.max(b - a, 1);
    const [low, high] = to - from > (end - start) / 100 ? [from, to] : [from - size / 2, from + size / 2];
    if (state.mode === 'time') span(low, high); else span(rankAt(low), Math.max(rankAt(high), rankAt(low) + 12));
    changed();
  });

  function pick(item) {
    state.line = item.line;
    const names = txnsOf(item);
    if (names.length === 1 && state.txn === null && state.fold === 'own') { /* one click shows the event; the panel offers its transaction */ }
    if (!ranks.has(item.line)) sift();
    showItem(item);
    const said = words(item);
    live.textContent = `${instant(item.ms)}: ${said.title}`;
    changed();
  }
  function pickTxn(txn, fold) {
    state.txn = txn;
    state.fold = fold || 'own';
    refold();
  }
  /** After the filters changed: keeps the view where it makes sense. */
  function refold() {
    const was = viewMs();
    sift();
    if (state.mode === 'order') span(-1, Math.min(Math.max(seen.length, 1), Math.max(40, state.b - state.a)));
    else if (state.txn !== null && state.fold === 'own') {
      const own = seen.filter((item) => txnsOf(item).includes(state.txn));
      if (own.length) {
        const [first, last] = [own[0].ms, own[own.length - 1].ms], room = Math.max((last - first) * 0.08, 1);
        if (last < was[0] || first > was[1] || last - first < (was[1] - was[0]) * 0.2 || first < was[0] || last > was[1]) span(first - room, last + room);
      }
    }
    changed();
  }
  function stepBy(by, same) {
    const row = same && state.line !== null ? seen.filter((item) => item.machine === byLine.get(state.line).machine) : seen;
    if (!row.length) return;
    let at = row.findIndex((item) => item.line === state.line);
    if (at < 0) { const within = inView(); at = within.length ? row.indexOf(within[0]) - by : 0; }
    pick(row[Math.min(row.length - 1, Math.max(0, at + by))]);
  }
  const keys = {
    ArrowRight: () => stepBy(1), ArrowLeft: () => stepBy(-1), ArrowDown: () => stepBy(1, true), ArrowUp: () => stepBy(-1, true),
    '+': () => zoom(0.6), '=': () => zoom(0.6), '-': () => zoom(1.6), a: () => all(), f: () => failure(), o: () => setMode(state.mode === 'time' ? 'order' : 'time'),
    Escape: () => clear(), Enter: () => { const item = byLine.get(state.line); if (item && txnsOf(item).length) pickTxn(txnsOf(item)[0]); },
  };
  main.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  function all() { const [low, high] = bounds(); span(low, high); changed(); }
  function failure() {
    const f = run.focus;
    if (state.mode === 'order') setMode('time');
    span(f.from_ms, f.to_ms);
    if (f.line !== null && byLine.has(f.line)) pick(byLine.get(f.line)); else changed();
  }
  function clear() { Object.assign(state, { line: null, txn: null, fold: 'own' }); refold(); }

  sift();
  span(state.a, state.b);
  new ResizeObserver(draw).observe(stage);
  return { run, state, items, byLine, txnOf, words, txnsOf, nameOf, stage, live, draw, sift, refold, span, zoom, setMode, pick, pickTxn, all, failure, clear, inView, viewMs, changed, stepBy,
    folded: () => run.machines.length - lanes.length, size: () => seen.length, bounds };
}

/** Counts over time: transactions under way, blocked and in doubt; and the range of latencies. */
function series(run) {
  const count = (stretches) => {
    const edges = stretches.flatMap(([from, to]) => (to === null ? [[from, 1]] : [[from, 1], [to, -1]])).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    let n = 0;
    return edges.map(([ms, by]) => [ms, (n += by)]);
  };
  const begun = run.transactions.filter((txn) => txn.initiated_ms !== null);
  const open = count(begun.map((txn) => [txn.initiated_ms, txn.ended_ms]));
  const late = begun.filter((txn) => txn.ended_ms === null || txn.ended_ms - txn.initiated_ms > run.patience_ms);
  const blocked = count(late.map((txn) => [txn.initiated_ms + run.patience_ms, txn.ended_ms]));
  const doubt = count(run.bars.filter((bar) => bar.kind === 'doubt').map((bar) => [bar.from_ms, bar.to_ms]));
  const latencies = run.transactions.filter((txn) => txn.returned_ms !== null && txn.asked_ms !== null).map((txn) => Math.max(0.01, txn.returned_ms - txn.asked_ms));
  const [low, high] = [latencies.reduce((a, b) => Math.min(a, b), Infinity), latencies.reduce((a, b) => Math.max(a, b), 0)];
  const most = [open, doubt, blocked].flatMap((points) => points.map(([, n]) => n)).reduce((a, b) => Math.max(a, b), 1);
  return { open, blocked, doubt, openMost: most, latency: latencies.length ? [low, Math.max(high, low * 1.5)] : [1, 10] };
}
