// The page of a comparison: sentences, small multiples on one axis, distributions, tables.

function comparisonPage(data, root) {
  const shown = new Set(data.protocols.map((protocol) => protocol.name));
  const colour = (at) => `var(--s${at % 6})`, dash = (at) => ['', '7 3', '2 3', '9 3 2 3', '4 4', '1 2'][at % 6];
  const seeds = data.seeds.length === 1 ? `seed ${data.seeds[0]}` : `${data.seeds.length} seeds, ${data.seeds[0]} to ${data.seeds[data.seeds.length - 1]}`;
  const header = el('header', {}, el('div', { class: 'grow' }, el('h1', {}, name(`${data.scenario} · ${data.protocols.map((p) => p.name).join(', ')} · ${seeds}`)), el('p', { class: 'sub' }, name(data.summary))), pageButtons(() => {}));
  const story = el('section', {}, el('h2', {}, 'What came out'), el('div', { class: 'story' }, data.story.map((text) => el('p', {}, name(text)))), el('div', { class: 'commands' }, command(data.command)));

  // ---- small multiples

  const lives = data.protocols.map((protocol, at) => ({ ...protocol, at })).filter((protocol) => protocol.life);
  const start = Math.min(0, ...lives.map(({ life }) => life.start_ms)), end = Math.max(1, ...lives.map(({ life }) => lastOf(life)));
  let view = [start, end];
  const pictures = el('div', { class: 'multiples' });

  function lastOf(life) {
    // The settle phase may be long and empty: what clients saw ends earlier.
    return life.transactions.reduce((last, txn) => Math.max(last, txn[1] ?? 0, txn[0] ?? 0), 0) + 500;
  }
  function counted(stretches) {
    const edges = stretches.flatMap(([from, to]) => (to === null ? [[from, 1]] : [[from, 1], [to, -1]])).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    let n = 0;
    return edges.map(([ms, by]) => [ms, (n += by)]);
  }
  function throughput(life) {
    const bins = 60, wide = (view[1] - view[0]) / bins, sums = new Array(bins).fill(0);
    for (const txn of life.transactions) {
      const bin = txn[1] !== null && txn[2] === 'committed' ? Math.floor((txn[1] - view[0]) / wide) : -1;
      if (bin >= 0 && bin < bins) sums[bin]++;
    }
    return sums.map((n, bin) => [view[0] + (bin + 0.5) * wide, (n / wide) * 1000]);
  }
  const blocked = (life) => counted(life.transactions.filter((txn) => txn[3] !== null && (txn[4] === null || txn[4] - txn[3] > life.patience_ms)).map((txn) => [txn[3] + life.patience_ms, txn[4]]));
  const open = (life) => counted(life.transactions.filter((txn) => txn[0] !== null).map((txn) => [txn[0], txn[2] === '' ? null : txn[1]]));
  const doubt = (life) => counted(life.doubt);
  const inside = (points) => {
    const before = points.filter(([ms]) => ms < view[0]).pop();
    const within = points.filter(([ms]) => ms >= view[0] && ms <= view[1]);
    return [...(before ? [[view[0], before[1]]] : [[view[0], 0]]), ...within];
  };

  function picture(title, of, stepped, note) {
    const curves = lives.filter((protocol) => shown.has(protocol.name)).map((protocol) => ({ protocol, points: stepped ? inside(of(protocol.life)) : of(protocol.life) }));
    const most = Math.max(1, ...curves.map(({ points }) => points.reduce((high, [, value]) => Math.max(high, value), 0)));
    const chart = frame(440, 190, view, [0, most * 1.05], { xText: seconds, label: `${title}: ` + curves.map(({ protocol, points }) => `${protocol.name} at most ${digits(points.reduce((high, [, value]) => Math.max(high, value), 0))}`).join('; ') });
    bands(chart);
    for (const { protocol, points } of curves) {
      let last = null;
      const path = points.map(([x, y], at) => {
        const step = stepped && last !== null ? `L${chart.px(x)} ${chart.py(last)} ` : '';
        last = y;
        return `${step}${at ? 'L' : 'M'}${chart.px(x)} ${chart.py(y)}`;
      }).join(' ') + (stepped && last !== null ? ` L${chart.right} ${chart.py(last)}` : '');
      chart.picture.append(svg('path', { d: path, style: `stroke:${colour(protocol.at)};fill:none;stroke-width:1.7`, 'stroke-dasharray': dash(protocol.at) }, svg('title', {}, protocol.name)));
    }
    return el('figure', {}, el('figcaption', {}, el('b', {}, title), note ? ' ' + note : ''), chart.picture);
  }
  const seconds = (ms) => (ms > 0 ? '+' : '') + digits(ms / 1000) + ' s';
  function bands(chart) {
    for (const [what, from, to] of data.faults) {
      const [a, b] = [Math.max(chart.left, chart.px(from)), Math.min(chart.right, chart.px(to ?? view[1]))];
      if (b > a) chart.picture.prepend(svg('rect', { x: a, y: chart.top, width: Math.max(1.5, b - a), height: chart.bottom - chart.top, style: 'fill:var(--fault)' }, svg('title', {}, what)));
    }
  }
  function scatter(protocol, low, high) {
    const chart = frame(440, 170, view, [low, high], { log: true, xText: seconds, yText: duration, label: `Latency of ${protocol.name} over time, on a logarithmic scale` });
    bands(chart);
    const outcomes = { committed: 'committed', aborted: 'aborted', declined: 'declined', unknown: 'unknown', '': 'unknown' };
    const paths = { committed: '', aborted: '', declined: '', unknown: '' };
    for (const [asked, answered, outcome] of protocol.life.transactions) {
      if (asked === null || asked < view[0] || asked > view[1]) continue;
      const x = chart.px(asked).toFixed(1), y = chart.py(answered === null ? high : Math.max(low, answered - asked));
      const of = outcomes[outcome], up = y.toFixed(1);
      paths[of] += of === 'committed' ? `M${x} ${up}h1.6v1.6h-1.6z` : of === 'aborted' ? `M${x - 2.5} ${y - 2.5}l5 5m-5 0l5 -5` : of === 'declined' ? `M${x - 2} ${up}h4v4h-4z` : `M${x - 2.5} ${y + 2.5}h5l-2.5 -5z`;
    }
    for (const [of, path] of Object.entries(paths)) {
      const full = of === 'committed';
      if (path) chart.picture.append(svg('path', { d: path, style: `stroke:var(--${of});fill:${full ? `var(--${of})` : 'none'};stroke-width:${full ? 0.6 : 1.1}` }));
    }
    return el('figure', {}, el('figcaption', {}, el('b', {}, name(protocol.name)), ', latency from the planned start'), chart.picture);
  }
  function distribution() {
    const some = lives.filter((protocol) => shown.has(protocol.name) && protocol.life.latencies.length);
    const all = some.flatMap(({ life }) => life.latencies);
    if (!all.length) return '';
    const [low, high] = [Math.max(0.1, Math.min(...all)), Math.max(...all) * 1.1];
    const chart = frame(440, 190, [0, 100], [low, Math.max(high, low * 2)], { log: true, xText: (at) => at + ' %', yText: duration, label: 'Latency by share of committed transactions: ' + some.map(({ name: of, life }) => `${of} median ${duration(life.latencies[49])}`).join('; ') });
    for (const { at, name: of, life } of some) {
      const path = life.latencies.map((ms, n) => `${n ? 'L' : 'M'}${chart.px(n + 1)} ${chart.py(ms)}`).join(' ');
      chart.picture.append(svg('path', { d: path, style: `stroke:${colour(at)};fill:none;stroke-width:1.7`, 'stroke-dasharray': dash(at) }, svg('title', {}, of)));
    }
    return el('figure', {}, el('figcaption', {}, el('b', {}, 'Latency, distribution'), ': so many of the committed transactions took at most …'), chart.picture);
  }
  function drawPictures() {
    const all = lives.flatMap(({ life }) => life.transactions.filter((txn) => txn[0] !== null && txn[1] !== null).map((txn) => txn[1] - txn[0]));
    const low = Math.max(0.1, all.reduce((a, b) => Math.min(a, b), Infinity)), high = all.reduce((a, b) => Math.max(a, b), low * 10) * 1.2;
    pictures.replaceChildren(...[picture('Committed a second', throughput, false), picture('Waiting for an answer', open, true, '(requests of clients)'), picture('Blocked', blocked, true, '(longer than the scenario’s patience)'),
      picture('In doubt', doubt, true, '(voted yes, decision unknown; per shard)'), distribution(), ...lives.filter((protocol) => shown.has(protocol.name)).map((protocol) => scatter(protocol, low, high))].filter((part) => part));
  }
  const legend = el('div', { class: 'tools', id: 'legend' }, lives.map((protocol) => {
    const box = el('input', { type: 'checkbox', checked: true, 'data-protocol': protocol.name });
    box.addEventListener('change', () => { if (box.checked) shown.add(protocol.name); else shown.delete(protocol.name); drawPictures(); });
    return el('label', {}, box, svg('svg', { width: 30, height: 10, 'aria-hidden': 'true' }, svg('path', { d: 'M0 5H30', style: `stroke:${colour(protocol.at)};stroke-width:2.4`, 'stroke-dasharray': dash(protocol.at) })), name(protocol.name));
  }));
  const look = (from, to) => () => { view = [from, to]; drawPictures(); };
  const [firstFault, lastFault] = [Math.min(...data.faults.map((fault) => fault[1])), Math.max(...data.faults.map((fault) => fault[2] ?? fault[1]))];
  const zooms = el('div', { class: 'tools' }, el('button', { type: 'button', id: 'whole', onclick: look(start, end) }, 'whole run'),
    data.faults.length ? el('button', { type: 'button', id: 'outage', onclick: look(Math.max(start, firstFault - 2000), Math.min(end, lastFault + 4000)) }, 'around the faults') : '');
  const multiples = lives.length ? el('section', {}, el('h2', {}, `Through the faults: seed ${data.pictured}`), el('p', { class: 'sub' }, data.faults.length
    ? `All protocols met the same plan; time counts from the first fault. Shaded: ${data.faults.slice(0, 4).map(([what]) => what).join('; ')}${data.faults.length > 4 ? ` and ${data.faults.length - 4} more` : ''}.` : 'All protocols met the same plan, in which nothing went wrong.'), legend, zooms, pictures,
    el('p', { class: 'sub' }, 'In the latency pictures: dot committed, cross aborted, square declined, triangle unknown or never answered.')) : '';
  if (lives.length) drawPictures();

  // ---- tables

  const best = (at) => {
    const values = data.protocols.map((protocol) => protocol.values[at]);
    return Math.max(...values) === Math.min(...values) ? null : values;
  };
  const bar = (value, values) => {
    const most = Math.max(...values, 0);
    return svg('svg', { width: 60, height: 8, 'aria-hidden': 'true' }, svg('rect', { x: 0, y: 1, height: 6, width: most > 0 ? Math.max(value > 0 ? 1 : 0, (value / most) * 60) : 0, style: 'fill:var(--lock)' }));
  };
  const columns = [['', (row) => row.name], ...data.protocols.map((protocol, at) => [protocol.name, (row) => {
    const value = row.values[at];
    return [row.many ? bar(value, row.values) : '', ' ', Number.isInteger(value) && row.whole ? String(value) : digits(value)];
  }, 'num'])];
  const rows = data.measurements.map((measured, at) => ({ name: measured, values: data.protocols.map((protocol) => protocol.values[at]), many: best(at) !== null, whole: data.protocols.every((protocol) => Number.isInteger(protocol.values[at])) }));
  const verdicts = el('div', { class: 'tools' }, data.protocols.map((protocol) => el('span', { class: 'badge ' + protocol.tone }, name(`${protocol.name}: ${protocol.verdict}`))));
  const costs = el('section', {}, el('h2', {}, data.seeds.length === 1 ? 'Measurements' : `Measurements over ${data.seeds.length} seeds`), verdicts, el('div', { class: 'scroll' }, table(columns, rows)));

  const properties = [...new Set(data.protocols.flatMap((protocol) => protocol.promises.map((promise) => promise[0])))];
  const cell = (protocol) => (property) => {
    const promise = protocol.promises.find((other) => other[0] === property);
    if (!promise) return '–';
    const [, promised, observed, status] = promise;
    const sign = { broken: '✕ ', kept: '✓ ', vacuous: '○ ', unknown: '? ' }[status] || '';
    return el('details', {}, el('summary', { class: 'status ' + status.replace(' ', '-') }, sign + status), el('p', { class: 'sub' }, 'promised: ', name(promised)), el('p', { class: 'sub' }, 'observed: ', name(observed)));
  };
  const promises = el('section', {}, el('h2', {}, 'Promised and observed'), el('p', { class: 'sub' }, 'Open a cell for what was promised and what was seen. Vacuous: it had no chance to fail.'),
    el('div', { class: 'scroll' }, table([['property', (property) => el('b', {}, property)], ...data.protocols.map((protocol) => [protocol.name, cell(protocol)])], properties)));

  function differences(paired) {
    const others = [...new Set(paired.differences.map((difference) => difference.protocol))];
    const measured = [...new Set(paired.differences.map((difference) => difference.measurement))];
    const of = (protocol, measurement) => paired.differences.find((difference) => difference.protocol === protocol && difference.measurement === measurement);
    const line = (difference) => {
      if (!difference || !difference.pairs) return '–';
      const [low, high] = difference.interval || [difference.mean, difference.mean];
      const clear = difference.interval && (low > 0 || high < 0);
      const reach = Math.max(...others.flatMap((other) => { const d = of(other, difference.measurement); return d ? [Math.abs(d.mean), ...(d.interval || []).map(Math.abs)] : []; }), 1e-9);
      const at = (value) => 60 + (value / reach) * 56;
      const picture = svg('svg', { width: 120, height: 14, 'aria-hidden': 'true' }, svg('line', { x1: 60, x2: 60, y1: 0, y2: 14, style: 'stroke:var(--line)' }),
        difference.interval ? svg('line', { x1: at(low), x2: at(high), y1: 7, y2: 7, style: `stroke:var(--${clear ? 'link' : 'dim'});stroke-width:2.5` }) : '', svg('circle', { cx: at(difference.mean), cy: 7, r: 3, style: `fill:var(--${clear ? 'link' : 'dim'})` }));
      const sign = (value) => (value > 0 ? '+' : '') + digits(value);
      return [picture, ' ', el(clear ? 'b' : 'span', {}, sign(difference.mean)), difference.interval ? ` [${sign(low)}, ${sign(high)}]` : ` (${plural(difference.pairs, 'pair')})`];
    };
    return el('section', {}, el('h2', {}, `Differences from ${paired.baseline}, seed by seed`), el('p', { class: 'sub' }, `Mean over the seeds, with the interval that covers it with ${Math.round(paired.confidence * 100)} % confidence where there are enough pairs (${paired.method}). Bold: the interval leaves out zero.`),
      el('div', { class: 'scroll' }, table([['', (measurement) => measurement], ...others.map((protocol) => [protocol, (measurement) => line(of(protocol, measurement))])], measured)));
  }
  root.replaceChildren(...[header, story, multiples, costs, data.paired ? differences(data.paired) : '', promises, el('p', { class: 'sub' }, `ordain ${data.ordain} · data format ${data.version}`)].filter((part) => part));
}
