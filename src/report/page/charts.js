// Pictures as SVG: the cycle of an anomaly, and small charts on a shared axis.

/** A cycle of transactions: nodes on a circle, arrows with their kinds. `pick` is called with a node's name. */
function cyclePicture(cycle, pick) {
  const count = cycle.nodes.length;
  const width = 560, height = count > 2 ? 320 : 190, far = count > 2 ? 118 : 150;
  const place = (at) => {
    const angle = count === 2 ? Math.PI * (1 - at) : -Math.PI / 2 + (2 * Math.PI * at) / count;
    return [width / 2 + far * 1.25 * Math.cos(angle), height / 2 + (count === 2 ? 0 : far * Math.sin(angle))];
  };
  const words = { ww: 'overwrites', wr: 'is read by', rw: 'is missed by', process: 'same session', realtime: 'in real time' };
  const picture = svg('svg', { viewBox: `0 0 ${width} ${height}`, width: '100%', style: `max-width:${width}px`, role: 'img',
    'aria-label': `A cycle of ${plural(count, 'transaction')}: ` + cycle.edges.map((edge) => edge.why).join('; ') });
  const marker = svg('marker', { id: 'arrow', viewBox: '0 0 10 10', refX: 9, refY: 5, markerWidth: 9, markerHeight: 9, orient: 'auto' },
    svg('path', { d: 'M0 0 L10 5 L0 10 z', style: 'fill:var(--text)' }));
  picture.append(svg('defs', {}, marker));
  for (const edge of cycle.edges) {
    const [x0, y0] = place(edge.from), [x1, y1] = place(edge.to);
    const [dx, dy] = [x1 - x0, y1 - y0], length = Math.hypot(dx, dy) || 1;
    const bend = count === 2 ? 62 : 26;
    const [cx, cy] = [(x0 + x1) / 2 - (dy / length) * -bend, (y0 + y1) / 2 - (dx / length) * bend];
    const cut = (x, y) => { const d = Math.hypot(cx - x, cy - y) || 1; return [x + ((cx - x) / d) * 30, y + ((cy - y) / d) * 22]; };
    const [ax, ay] = cut(x0, y0), [bx, by] = cut(x1, y1);
    const dashed = edge.kind === 'rw' ? '6 4' : edge.kind === 'realtime' || edge.kind === 'process' ? '2 4' : null;
    picture.append(svg('path', { class: 'edge', d: `M${ax} ${ay} Q${cx} ${cy} ${bx} ${by}`, 'stroke-width': 1.6, 'stroke-dasharray': dashed, 'marker-end': 'url(#arrow)' },
      svg('title', {}, edge.why)));
    const tx = (ax + 2 * cx + bx) / 4, ty = (ay + 2 * cy + by) / 4;
    picture.append(svg('text', { x: tx, y: ty + (cy > (y0 + y1) / 2 + 1 ? 16 : -7), 'text-anchor': 'middle', class: 'dim' }, `${edge.kind}: ${words[edge.kind] || ''}`));
  }
  cycle.nodes.forEach((node, at) => {
    const [x, y] = place(at);
    const link = svg('a', { href: '#txn=' + encodeURIComponent(node), 'aria-label': node },
      svg('rect', { class: 'node', x: x - 27, y: y - 17, width: 54, height: 34, rx: 8 }),
      svg('text', { x, y: y + 4, 'text-anchor': 'middle' }, node.length > 8 ? node.slice(0, 7) + '…' : node));
    link.addEventListener('click', (event) => { event.preventDefault(); pick(node); });
    picture.append(link);
  });
  return picture;
}

/** A frame with axes for a small chart. `x` and `y` are [from, to]; returns scales and the element to draw into. */
function frame(width, height, x, y, options) {
  const [left, right, top, bottom] = options.room || [46, 10, 10, 24];
  const place = (value, [from, to], a, b) => a + ((value - from) / (to - from || 1)) * (b - a);
  const px = (value) => place(value, x, left, width - right);
  const log = options.log;
  const py = (value) => (log ? place(Math.log10(Math.max(value, y[0])), [Math.log10(y[0]), Math.log10(y[1])], height - bottom, top) : place(value, y, height - bottom, top));
  const picture = svg('svg', { viewBox: `0 0 ${width} ${height}`, width: '100%', role: 'img', 'aria-label': options.label });
  const ticks = log ? [...Array(12)].map((_, n) => 10 ** (n - 3)).filter((at) => at >= y[0] && at <= y[1]) : steps(y[0], y[1], 3);
  for (const at of ticks) {
    picture.append(svg('line', { class: 'axis', x1: left, x2: width - right, y1: py(at), y2: py(at) }),
      svg('text', { class: 'dim', x: left - 5, y: py(at) + 4, 'text-anchor': 'end' }, options.yText ? options.yText(at) : digits(at)));
  }
  for (const at of steps(x[0], x[1], Math.max(2, Math.floor(width / 95)))) {
    picture.append(svg('line', { class: 'axis', x1: px(at), x2: px(at), y1: height - bottom, y2: height - bottom + 4 }),
      svg('text', { class: 'dim', x: px(at), y: height - 6, 'text-anchor': px(at) > width - right - 18 ? 'end' : 'middle' }, options.xText ? options.xText(at) : digits(at)));
  }
  return { picture, px, py, left, right: width - right, top, bottom: height - bottom };
}

/** The share of redrawn runs that still fail, over the instant from which they were redrawn. */
function sharePicture(why, jump) {
  const from = why.shares[0][0], to = why.shares[why.shares.length - 1][0];
  const chart = frame(640, 190, [from, to > from ? to : from + 1], [0, 1], { room: [52, 14, 12, 26], yText: (at) => Math.round(at * 100) + ' %', xText: (at) => instant(at),
    label: 'Share of runs that still fail, by the instant from which they are redrawn: ' + why.shares.map(([ms, share]) => `${instant(ms)} ${Math.round(share * 100)} %`).join('; ') });
  if (why.turn) {
    const [a, b] = why.turn;
    chart.picture.append(svg('rect', { x: chart.px(a) - 2, y: chart.top, width: Math.max(4, chart.px(b) - chart.px(a)) + 2, height: chart.bottom - chart.top, style: 'fill:var(--fault)' }),
      svg('text', { x: chart.px(a) > 320 ? chart.px(a) - 8 : chart.px(b) + 8, y: chart.top + 14, 'text-anchor': chart.px(a) > 320 ? 'end' : 'start', style: 'fill:var(--bad)' }, 'the point of no return'));
  }
  const line = (column, colour, dashed) => {
    const path = why.shares.map((share, at) => `${at ? 'L' : 'M'}${chart.px(share[0])} ${chart.py(share[column])}`).join(' ');
    chart.picture.append(svg('path', { d: path, style: `stroke:var(--${colour});fill:none;stroke-width:2${dashed ? ';stroke-dasharray:4 3' : ''}` }));
  };
  if (why.shares.some((share) => share[2] > 0)) line(2, 'declined', true);
  line(1, 'bad');
  for (const [ms, share] of why.shares) {
    const dot = svg('circle', { cx: chart.px(ms), cy: chart.py(share), r: 4, style: 'fill:var(--bad);cursor:pointer' }, svg('title', {}, `${Math.round(share * 100)} % of ${why.redraws} runs that are redrawn from ${instant(ms)} on still fail`));
    dot.addEventListener('click', () => jump(ms));
    chart.picture.append(dot);
  }
  return chart.picture;
}
