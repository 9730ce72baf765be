// The page of a sweep: a curve for each protocol over the first axis, with intervals; one row of pictures for each choice of
// the other axes.

/** A value of an axis as a number: with its unit's factor if it has one. */
function axisNumber(text) {
  const match = /^(-?\d+(?:\.\d+)?)(ns|us|ms|s|m|h|%)?$/.exec(text);
  const factors = { ns: 1e-6, us: 1e-3, ms: 1, s: 1e3, m: 6e4, h: 3.6e6, '%': 1 };
  return match ? Number(match[1]) * (match[2] ? factors[match[2]] : 1) : null;
}

function sweepPage(data, root) {
  const sweep = data.sweep, [first, ...others] = sweep.axes;
  const shown = new Set(sweep.protocols);
  const colour = (at) => `var(--s${at % 6})`, dash = (at) => ['', '7 3', '2 3', '9 3 2 3', '4 4', '1 2'][at % 6];
  const seeds = sweep.seeds.length === 1 ? `seed ${sweep.seeds[0]}` : `${sweep.seeds.length} seeds, ${sweep.seeds[0]} to ${sweep.seeds[sweep.seeds.length - 1]}`;
  const header = el('header', {}, el('div', { class: 'grow' }, el('h1', {}, name(`${sweep.scenario} over ${sweep.axes.map((axis) => axis.key).join(' and ')} · ${seeds}`)), el('p', { class: 'sub' }, name(sweep.summary))), pageButtons(() => {}));
  const pictures = el('div');

  // Numbers have their place on the axis; other words follow one another.
  const numbers = first.values.map(axisNumber), numeric = numbers.every((number) => number !== null) && new Set(numbers).size === numbers.length;
  const places = first.values.map((_, at) => (numeric ? numbers[at] : at));
  const x = [Math.min(...places), Math.max(...places)];
  const xText = (at) => { const found = places.findIndex((place) => Math.abs(place - at) < 1e-9); return found >= 0 ? first.values[found] : numeric ? digits(at) : ''; };

  function choices() {
    const rest = (point) => JSON.stringify(point.at.slice(1));
    return [...new Set(sweep.points.map(rest))].map((key) => ({ values: JSON.parse(key), points: sweep.points.filter((point) => rest(point) === key) }));
  }
  function picture(measure, points) {
    const curves = sweep.protocols.map((protocol, at) => ({ protocol, at, points: points.flatMap((point) => {
      const of = point.protocols.find((line) => line.protocol === protocol), measured = of && of.measured[measure];
      return measured ? [{ x: places[first.values.indexOf(point.at[0])], label: point.at[0], ...measured, broken: of.violations, vacuous: of.vacuous }] : [];
    }).sort((a, b) => a.x - b.x) })).filter(({ protocol, points: some }) => shown.has(protocol) && some.length);
    const most = Math.max(1e-9, ...curves.flatMap(({ points: some }) => some.flatMap((point) => [point.mean, point.interval ? point.interval[1] : 0])));
    const chart = frame(440, 210, x[0] === x[1] ? [x[0] - 1, x[0] + 1] : x, [0, most * 1.05], { xText, room: [52, 16, 10, 26],
      label: `${measure} over ${first.key}: ` + curves.map(({ protocol, points: some }) => `${protocol} ${some.map((point) => `${digits(point.mean)} at ${point.label}`).join(', ')}`).join('; ') });
    for (const { protocol, at, points: some } of curves) {
      const band = some.filter((point) => point.interval);
      if (band.length > 1) {
        const up = band.map((point, n) => `${n ? 'L' : 'M'}${chart.px(point.x)} ${chart.py(point.interval[1])}`).join(' ');
        const down = band.slice().reverse().map((point) => `L${chart.px(point.x)} ${chart.py(Math.max(0, point.interval[0]))}`).join(' ');
        chart.picture.append(svg('path', { d: `${up} ${down}Z`, style: `fill:${colour(at)};opacity:0.15` }));
      }
      const path = some.map((point, n) => `${n ? 'L' : 'M'}${chart.px(point.x)} ${chart.py(point.mean)}`).join(' ');
      chart.picture.append(svg('path', { d: path, style: `stroke:${colour(at)};fill:none;stroke-width:1.7`, 'stroke-dasharray': dash(at) }));
      for (const point of some) {
        const interval = point.interval ? `, between ${digits(point.interval[0])} and ${digits(point.interval[1])}` : '';
        const broken = point.broken ? `; ${plural(point.broken, 'run')} broke a promise` : '';
        chart.picture.append(svg('circle', { cx: chart.px(point.x), cy: chart.py(point.mean), r: point.broken ? 4.5 : 3, style: `fill:${point.broken ? 'var(--bad)' : colour(at)}` }, svg('title', {}, `${protocol} at ${point.label}: ${digits(point.mean)}${interval}${broken}`)));
      }
    }
    return el('figure', {}, el('figcaption', {}, el('b', {}, measure)), chart.picture);
  }
  function draw() {
    pictures.replaceChildren(...choices().map(({ values, points }) => el('section', {}, values.length ? el('h2', {}, name(values.map((value, at) => `${others[at].key} = ${value}`).join(', '))) : '',
      el('div', { class: 'multiples' }, data.measures.map((measure) => picture(measure, points))))));
  }
  const legend = el('div', { class: 'tools', id: 'legend' }, sweep.protocols.map((protocol, at) => {
    const box = el('input', { type: 'checkbox', checked: true, 'data-protocol': protocol });
    box.addEventListener('change', () => { if (box.checked) shown.add(protocol); else shown.delete(protocol); draw(); });
    return el('label', {}, box, svg('svg', { width: 30, height: 10, 'aria-hidden': 'true' }, svg('path', { d: 'M0 5H30', style: `stroke:${colour(at)};stroke-width:2.4`, 'stroke-dasharray': dash(at) })), name(protocol));
  }));
  draw();
  const cell = (point, protocol, measure) => { const of = point.protocols.find((line) => line.protocol === protocol); const measured = of && of.measured[measure]; return measured ? digits(measured.mean) + (of.violations ? ' ✕' : '') : '–'; };
  const tables = el('details', {}, el('summary', {}, 'The same as tables'), data.measures.map((measure) => [el('h3', {}, measure), el('div', { class: 'scroll' },
    table([...sweep.axes.map((axis, at) => [axis.key, (point) => name(point.at[at])]), ...sweep.protocols.map((protocol) => [protocol, (point) => cell(point, protocol, measure), 'num'])], sweep.points))]));
  root.replaceChildren(header, el('section', {}, el('div', { class: 'commands' }, command(data.command)), el('p', { class: 'sub' }, data.reading), legend), pictures, el('section', {}, tables), el('p', { class: 'sub' }, `ordain ${sweep.ordain} · data format ${sweep.schema}`));
}
