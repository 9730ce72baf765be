// The page of a run.

/** What the page's address says after `#`. */
function readAddress() {
  const found = {};
  for (const part of location.hash.slice(1).split('&')) {
    const at = part.indexOf('=');
    if (at > 0) { try { found[part.slice(0, at)] = decodeURIComponent(part.slice(at + 1)); } catch (broken) { /* not an address of this page */ } }
  }
  return found;
}

function runPage(run, root) {
  let ready = false;
  const told = () => { if (ready) { writeAddress(); refresh(); } };
  const time = timeline(run, told);
  const { state } = time;
  const redraw = () => time.draw();

  // ---- first screen

  const title = `${run.scenario} · ${run.protocol} · seed ${run.seed}`;
  const header = el('header', {},
    el('div', { class: 'grow' }, el('h1', {}, name(title)), el('p', { class: 'sub' }, name(run.summary))),
    el('span', { class: 'badge ' + run.tone, id: 'verdict' }, run.verdict + (run.class && run.tone === 'bad' ? ': ' + run.class : '')), pageButtons(redraw));
  const goTo = (to) => (event) => {
    event.preventDefault();
    const [key, value] = to.split('=');
    if (key === 'txn') { if (time.txnOf.has(value)) time.pickTxn(time.txnOf.get(value)); }
    else if (key === 'line') jump(Number(value));
    const target = { promises: 'promises', faults: 'plan' }[key] || 'timeline';
    document.getElementById(target).scrollIntoView({ block: 'start' });
  };
  const sentence = (pieces) => el('p', {}, pieces.map((piece) => (piece.to ? el('a', { href: '#' + piece.to, onclick: goTo(piece.to) }, name(piece.text)) : piece.text)));
  const story = el('section', { 'aria-labelledby': 'story' }, el('h2', { id: 'story' }, 'What happened'),
    el('div', { class: 'story ' + run.tone }, run.story.map(sentence), run.remarks.map((remark) => el('p', { class: 'dim' }, remark))),
    el('div', { class: 'commands' }, run.commands.map(command)));

  function jump(line) {
    let item = time.byLine.get(line);
    if (!item) {
      // The sending stands for what has no place of its own, and the nearest event for what is left out.
      item = time.items.find((other) => other.line >= line) || time.items[time.items.length - 1];
    }
    if (!item) return;
    if (state.txn !== null && !time.txnsOf(item).includes(state.txn)) Object.assign(state, { txn: null, fold: 'own' });
    time.sift();
    const [a, b] = time.viewMs();
    if (state.mode === 'time' && (b - a > 3000 || item.ms < a || item.ms > b)) time.span(item.ms - 150, item.ms + 150);
    time.pick(item);
  }

  // ---- promises

  const statusCell = (promise) => el('span', { class: 'status ' + promise.status.replace(' ', '-') }, { broken: '✕ ', kept: '✓ ', vacuous: '○ ', unknown: '? ' }[promise.status] || '', promise.status);
  const txnLinks = (names) => names.slice(0, 8).map((txn, at) => [at ? ', ' : '', el('a', { href: '#txn=' + txn, onclick: goTo('txn=' + txn) }, txn)]);
  const promiseText = (promise) => [promise.observed, promise.transactions.length ? [' (', txnLinks(promise.transactions), ')'] : '',
    promise.example && promise.example !== promise.observed ? el('details', {}, el('summary', { class: 'dim' }, 'one way in which it failed'), el('pre', {}, promise.example)) : ''];
  const promises = el('section', {}, el('h2', { id: 'promises' }, 'Promised and observed'),
    el('div', { class: 'scroll' }, table([['property', (p) => el('b', {}, p.name)], ['promised', (p) => name(p.promised)], ['observed', (p) => promiseText(p)],
      ['', statusCell], ['put to the test', (p) => (p.exercised ? p.exercised + ' ×' : 'never'), 'num']], run.promises)));

  // ---- the timeline and its tools

  const press = (text, pressed, onclick, more) => el('button', { type: 'button', 'aria-pressed': String(pressed), onclick, ...more }, text);
  const modes = { time: press('true time', true, () => time.setMode('time'), { id: 'mode-time' }), order: press('event order', false, () => time.setMode('order'), { id: 'mode-order' }) };
  const search = el('input', { type: 'search', placeholder: 'filter: T61, prepare, london …', 'aria-label': 'filter events by text', size: 22, id: 'filter' });
  let typing = null;
  search.addEventListener('input', () => { clearTimeout(typing); typing = setTimeout(() => { state.query = search.value; time.refold(); }, 120); });
  const boxes = Object.entries(KINDS).map(([kind, text]) => {
    const box = el('input', { type: 'checkbox', checked: state.show[kind], 'data-kind': kind });
    box.addEventListener('change', () => { state.show[kind] = box.checked; time.refold(); });
    return el('label', {}, box, text);
  });
  const folds = { own: 'only its own events', past: 'what led to it', future: 'what followed', all: 'everything' };
  const foldTools = el('div', { class: 'tools', hidden: true, id: 'folds' });
  const tools = el('div', { class: 'tools' }, modes.time, modes.order, el('span', { class: 'gap' }),
    press('+', false, () => time.zoom(0.5), { 'aria-label': 'zoom in', id: 'zoom-in' }), press('−', false, () => time.zoom(2), { 'aria-label': 'zoom out', id: 'zoom-out' }),
    press('whole run', false, () => time.all(), { id: 'whole' }), run.focus.line !== null ? press('failure', false, () => time.failure(), { id: 'failure' }) : '',
    el('span', { class: 'gap' }), search, boxes);
  for (const button of tools.querySelectorAll('button:not(#mode-time):not(#mode-order)')) button.removeAttribute('aria-pressed');
  const sign = (draw) => svg('svg', { width: 18, height: 12, viewBox: '0 0 18 12', 'aria-hidden': 'true' }, draw);
  const legend = el('div', { class: 'legend' },
    el('span', {}, sign(svg('path', { d: 'M1 2 L14 10 M14 10 l-5 -1 M14 10 l-2 -4', style: 'stroke:var(--msg);fill:none' })), 'message'),
    el('span', {}, sign(svg('path', { d: 'M1 6 L8 6 M7 2 l8 8 M15 2 l-8 8', style: 'stroke:var(--lost);fill:none;stroke-width:1.6' })), 'lost, with the reason'),
    el('span', {}, sign(svg('circle', { cx: 9, cy: 6, r: 3, style: 'fill:var(--fact)' })), 'a fact that a process stated'),
    el('span', {}, '▮ flushed, ▯ flush failed'), el('span', {}, '⚡ crash, ▲ restart, ✱ panic'),
    el('span', {}, sign(svg('rect', { x: 1, y: 3, width: 16, height: 6, style: 'fill:var(--lock)' })), 'locks held'),
    el('span', {}, sign(svg('rect', { x: 1, y: 3, width: 16, height: 6, style: 'fill:var(--doubt)' })), 'in doubt (hatched)'),
    el('span', {}, sign(svg('path', { d: 'M1 6 H17', style: 'stroke:var(--wait);stroke-width:2;stroke-dasharray:3 2' })), 'waits for a lock'),
    el('span', {}, sign(svg('rect', { x: 1, y: 1, width: 16, height: 10, style: 'fill:var(--fault)' })), 'a fault is active'),
    el('span', {}, 'clients: bar from the planned start to the answer, ', sign(svg('rect', { x: 1, y: 3, width: 16, height: 6, style: 'fill:var(--committed)' })), 'committed ',
      sign(svg('rect', { x: 1, y: 3, width: 16, height: 6, style: 'fill:var(--aborted)' })), 'aborted ', sign(svg('rect', { x: 1, y: 3, width: 16, height: 6, style: 'fill:var(--declined)' })), 'declined ',
      sign(svg('rect', { x: 1, y: 3, width: 16, height: 6, style: 'fill:var(--unknown)' })), 'unknown'));
  const said = el('p', { class: 'sub', id: 'said' });
  const panel = el('div', { class: 'panel', id: 'selected' });
  const listing = el('ol', { class: 'events' });
  const listed = el('details', { id: 'listed' }, el('summary', {}, 'The events in view as text'), listing);
  listed.addEventListener('toggle', () => refresh());
  const section = el('section', {}, el('h2', { id: 'timeline' }, 'Timeline'), run.shown.left_out ? el('p', { class: 'note' }, run.shown.left_out) : '',
    tools, foldTools, time.stage, time.live, said, el('details', { open: innerWidth > 700 }, el('summary', { class: 'dim' }, 'How to read it'), legend,
      el('p', { class: 'sub' }, `Times count from ${run.origin}. Drag to move; double click, Ctrl and wheel, or + and − to zoom; drag in the narrow strip to choose a stretch. `
        + 'Keys: ← → from event to event, ↑ ↓ on one machine, Enter its transaction, o order or time, f failure, a all, Escape lets go.')), panel, listed);

  function eventRow(item, here) {
    const said = time.words(item);
    return el('li', { class: here ? 'here' : null }, el('span', { class: 'when' }, instant(item.ms)),
      el('span', {}, el('button', { type: 'button', class: 'plain', onclick: () => time.pick(item) }, name(said.title)), said.detail && said.detail !== said.title ? el('span', { class: 'dim mono' }, ' ', name(said.detail.length > 160 ? said.detail.slice(0, 160) + '…' : said.detail)) : ''));
  }
  const pair = (term, what) => (what === null || what === undefined || what === '' ? [] : [el('dt', {}, term), el('dd', {}, what)]);
  const txnButton = (at) => el('button', { type: 'button', class: 'plain', onclick: () => time.pickTxn(at) }, run.transactions[at].name);
  const listOf = (all) => all.map((at, n) => [n ? ', ' : '', txnButton(at)]);

  function waits(at) {
    const far = (bar) => bar.to_ms ?? Infinity;
    const meet = (a, b) => a.machine === b.machine && a.from_ms < far(b) && b.from_ms < far(a);
    const own = run.bars.filter((bar) => bar.txn === at);
    const others = (kindOfMine, kindOfTheirs) => [...new Set(run.bars.filter((bar) => bar.txn !== at && kindOfTheirs.includes(bar.kind) && own.some((mine) => kindOfMine.includes(mine.kind) && meet(mine, bar))).map((bar) => bar.txn))];
    return { before: others(['wait'], ['lock', 'doubt']), behind: others(['lock', 'doubt'], ['wait']) };
  }
  function txnPanel(at) {
    const txn = run.transactions[at], { before, behind } = waits(at);
    const own = time.items.filter((item) => time.txnsOf(item).includes(at));
    const doubt = run.bars.filter((bar) => bar.txn === at && bar.kind === 'doubt').map((bar) => `${bar.what} on ${time.nameOf(bar.machine)} from ${instant(bar.from_ms)} ${bar.to_ms === null ? 'to the end' : 'for ' + duration(bar.to_ms - bar.from_ms)}`);
    const short = (all) => (all.length > 12 ? [listOf(all.slice(0, 12)), ` and ${all.length - 12} more`] : listOf(all));
    return [el('h3', {}, name(txn.name), ' ', el('span', { class: 'dim' }, name(txn.text))),
      el('dl', {}, pair('client', `session ${txn.session} in ${txn.region}`), pair('sent', txn.invoked_ms === null ? 'never' : instant(txn.invoked_ms)),
        pair('taken charge of', txn.initiated_ms !== null ? instant(txn.initiated_ms) : 'never'), pair('decided', txn.decided_ms !== null ? instant(txn.decided_ms) : 'not stated'),
        pair('ended', txn.ended_ms !== null ? instant(txn.ended_ms) : 'never'),
        pair('returned', txn.returned_ms === null ? 'never' : `${txn.outcome}${txn.why ? ' (' + txn.why + ')' : ''} at ${instant(txn.returned_ms)}, after ${duration(txn.returned_ms - txn.asked_ms)}`),
        pair('read', txn.reads.length ? el('span', {}, name(txn.reads.join('; '))) : ''), pair('in doubt', doubt.join('; ')),
        pair('it waited for', before.length ? short(before) : ''), pair('waited for it', behind.length ? short(behind) : '')),
      el('details', { open: own.length <= 60 }, el('summary', {}, plural(own.length, 'event')), el('ol', { class: 'events' }, own.slice(0, 400).map((item) => eventRow(item, item.line === state.line))),
        own.length > 400 ? el('p', { class: 'dim' }, `the first 400 of ${own.length}`) : '')];
  }
  function eventPanel(item) {
    const said = time.words(item), m = item.type !== 'point' && run.messages[item.at], names = time.txnsOf(item);
    const machine = item.machine >= 0 && run.machines[item.machine];
    const local = machine ? item.ms + run.origin_ms + machine.clock_offset_ms + ((item.ms + run.origin_ms) * machine.clock_drift_ppm) / 1e6 : null;
    const other = (line, text) => el('button', { type: 'button', class: 'plain', onclick: () => time.pick(time.byLine.get(line)) }, text);
    return [el('h3', {}, name(said.title)),
      el('dl', {}, pair('time', `${instant(item.ms)} from ${run.origin}, ${duration(item.ms + run.origin_ms)} from the start; event ${item.line}`),
        pair('its wall clock', machine && machine.clock_offset_ms !== 0 ? `${duration(local - item.ms - run.origin_ms)} from true time, before any step of the clock` : ''),
        pair('transactions', names.length ? listOf(names.slice(0, 12)) : ''),
        pair('message', m ? [item.type !== 'send' ? other(m[5], 'its sending') : '', m[7].filter(([line]) => line !== item.line).map(([line, ms], n) => [n || item.type !== 'send' ? ', ' : '', other(line, `arrives ${instant(ms)}`)]),
          m[8] && item.type === 'send' ? [m[7].length ? ', ' : '', other(m[8][0], 'lost: ' + m[8][2])] : '', !m[7].length && !m[8] ? 'still under way where the page ends' : ''] : ''),
        pair('content', said.detail ? el('span', { class: 'mono' }, name(said.detail)) : ''))];
  }
  function refresh() {
    for (const mode of ['time', 'order']) modes[mode].setAttribute('aria-pressed', String(state.mode === mode));
    const anything = state.txn !== null || state.line !== null;
    foldTools.hidden = !anything;
    const about = state.txn !== null ? run.transactions[state.txn].name : 'this event';
    foldTools.replaceChildren(el('span', { class: 'dim' }, name(about), ': '), ...Object.entries(folds).filter(([fold]) => state.txn !== null || fold !== 'own').map(([fold, text]) => {
      const on = state.fold === fold || (state.txn === null && state.fold === 'own' && fold === 'all');
      return press(text, on, () => { state.fold = fold; time.refold(); }, { 'data-fold': fold });
    }), press('let go', false, () => time.clear(), { id: 'let-go' }));
    const [a, b] = time.viewMs(), view = time.inView(), folded = time.folded();
    said.textContent = `${plural(view.length, 'event')} in view, ${instant(a)} to ${instant(b)}; ${time.size()} of ${time.items.length} pass the filters`
      + (folded ? `; ${plural(folded, 'machine')} without such events ${folded === 1 ? 'is' : 'are'} folded away` : '') + '.';
    const picked = state.line !== null && time.byLine.get(state.line);
    panel.replaceChildren(...(picked ? eventPanel(picked) : []), ...(state.txn !== null ? txnPanel(state.txn) : []),
      ...(!picked && state.txn === null ? [el('p', { class: 'dim' }, 'Click an event or a bar to see what it is. Click a transaction to keep only its own events, what led to it, or what followed.')] : []));
    if (listed.open) {
      listing.replaceChildren(...view.slice(0, 300).map((item) => eventRow(item, item.line === state.line)), view.length > 300 ? el('li', {}, '', `and ${view.length - 300} more: zoom in`) : '');
    }
  }

  // ---- what made it fail

  function whySection(why) {
    const at = (ms) => { const item = time.items.find((other) => other.ms >= ms); if (item) { jump(item.line); document.getElementById('timeline').scrollIntoView(); } };
    const groups = [['fault', 'Faults, each taken away alone'], ['transaction', 'Transactions, each taken away alone'], ['message', 'Messages, each lost or saved alone']];
    const word = { passes: '✓ then it passes', fails: '✕ it still fails', 'fails otherwise': '✕ it fails in another way' };
    const row = (taken) => el('li', {}, taken.what.map((piece) => (piece.to ? el('a', { href: '#' + piece.to, onclick: goTo(piece.to) }, name(piece.text)) : piece.text)), ': ', el('b', { class: 'status ' + (taken.then === 'passes' ? 'kept' : 'not-promised') }, word[taken.then]));
    const list = ([kind, title]) => {
      const all = why.removals.filter((taken) => taken.kind === kind);
      const saving = all.filter((taken) => taken.then === 'passes');
      return all.length ? el('details', { open: saving.length > 0 && saving.length <= 6 }, el('summary', {}, `${title}: ${saving.length} of ${all.length} save it`), el('ul', {}, [...saving, ...all.filter((taken) => taken.then !== 'passes')].map(row))) : '';
    };
    return el('section', {}, el('h2', { id: 'why' }, 'What made it fail'), why.sentences.map(sentence),
      el('div', { class: 'two' }, el('figure', {}, sharePicture(why, at), el('figcaption', {}, `Share of ${why.redraws} runs that still fail when the network, disks and timers are redrawn from an instant on; dashed: that break another promise.`)),
        el('div', {}, why.events.length ? [el('h3', {}, 'What happened at the point of no return'), el('ol', {}, why.events.map((event) => el('li', {}, sentence(event))))] : '', groups.map(list))),
      el('p', { class: 'sub' }, `${why.runs} runs. What is necessary for a failure need not be its cause: every transaction that it is about is necessary.`));
  }
  const why = run.why ? whySection(run.why) : '';

  // ---- anomaly, transactions, plan

  const anomaly = run.cycle ? el('section', {}, el('h2', { id: 'anomaly' }, `The anomaly: ${run.cycle.kind}`),
    el('div', { class: 'two' }, el('figure', {}, cyclePicture(run.cycle, (txn) => { if (time.txnOf.has(txn)) { time.pickTxn(time.txnOf.get(txn)); document.getElementById('timeline').scrollIntoView(); } })),
      el('ol', {}, run.cycle.edges.map((edge) => el('li', {}, el('b', {}, name(`${run.cycle.nodes[edge.from]} before ${run.cycle.nodes[edge.to]}: `)), name(edge.why))),
        el('li', {}, 'So the first would have to come before itself.')))) : '';
  const jumpTo = (at, text) => el('button', { type: 'button', class: 'plain', onclick: () => { time.pickTxn(at); document.getElementById('timeline').scrollIntoView(); } }, text);
  const order = run.transactions.map((txn, at) => ({ txn, at })).sort((a, b) => Number(run.focus.transactions.includes(b.at)) - Number(run.focus.transactions.includes(a.at)));
  const transactions = el('section', {}, el('h2', {}, `Transactions (${run.transactions.length})`), longTable([
    ['', ({ txn, at }) => jumpTo(at, txn.name)], ['what it does', ({ txn }) => name(txn.text)], ['from', ({ txn }) => name(txn.region)],
    ['sent', ({ txn }) => (txn.invoked_ms === null ? 'never' : instant(txn.invoked_ms)), 'num'], ['took', ({ txn }) => (txn.returned_ms === null ? '–' : duration(txn.returned_ms - txn.asked_ms)), 'num'],
    ['outcome', ({ txn }) => (txn.outcome || 'never returned') + (txn.why ? ': ' + txn.why : '')]], order, 12));
  const faultRow = (fault) => [el('td', {}, fault.line !== null ? el('button', { type: 'button', class: 'plain', onclick: () => { jump(fault.line); document.getElementById('timeline').scrollIntoView(); } }, name(fault.text)) : name(fault.text)),
    el('td', { class: 'num', 'data-name': 'struck' }, fault.from_ms === null ? 'never struck' : instant(fault.from_ms)), el('td', { class: 'num', 'data-name': 'for' }, fault.from_ms === null ? '–' : fault.to_ms === null ? 'to the end' : duration(fault.to_ms - fault.from_ms))];
  const skewed = run.machines.filter((machine) => machine.clock_offset_ms !== 0 || machine.clock_drift_ppm !== 0);
  const plan = el('section', {}, el('h2', { id: 'plan' }, 'The plan'), el('h3', {}, plural(run.faults.length, 'fault')),
    run.faults.length ? el('div', { class: 'scroll' }, el('table', { class: 'stack' }, el('thead', {}, el('tr', {}, ['as planned', 'struck', 'for'].map((text) => el('th', { scope: 'col' }, text)))),
      el('tbody', {}, run.faults.map((fault) => el('tr', {}, faultRow(fault)))))) : el('p', {}, 'Nothing was planned to go wrong.'),
    skewed.length ? el('details', {}, el('summary', {}, 'Wall clocks'), table([['machine', (m) => name(m.name)], ['from true time at the start', (m) => duration(m.clock_offset_ms), 'num'], ['drift', (m) => m.clock_drift_ppm + ' ppm', 'num']], skewed)) : '');
  const figures = el('section', {}, el('h2', {}, 'Figures'), table([['', ([what]) => what], ['', ([, value]) => value, 'num']], run.figures),
    el('p', { class: 'sub' }, `digest ${run.digest} · ordain ${run.ordain} · data format ${run.version}`));

  // ---- the address

  let written = '';
  function writeAddress() {
    const parts = [];
    if (state.mode !== 'time') parts.push('mode=' + state.mode);
    if (state.txn !== null) parts.push('txn=' + encodeURIComponent(run.transactions[state.txn].name));
    if (state.line !== null) parts.push('line=' + state.line);
    if (state.fold !== 'own') parts.push('fold=' + state.fold);
    if (state.query) parts.push('q=' + encodeURIComponent(state.query));
    const [a, b] = [state.a, state.b].map((at) => Math.round(at * 1000) / 1000);
    parts.push('from=' + a, 'to=' + b);
    written = '#' + parts.join('&');
    try { history.replaceState(null, '', written); } catch (refused) { /* some mail readers forbid it */ }
  }
  function followAddress() {
    if (location.hash === written) return;
    const wanted = readAddress();
    if (!Object.keys(wanted).length) return;
    const line = wanted.line !== undefined && time.byLine.has(Number(wanted.line)) ? Number(wanted.line) : null;
    const fold = folds[wanted.fold] ? wanted.fold : 'own';
    Object.assign(state, { txn: time.txnOf.get(wanted.txn) ?? null, line, fold, query: wanted.q || '', mode: wanted.mode === 'order' ? 'order' : 'time' });
    search.value = state.query;
    time.sift();
    const [from, to] = [Number(wanted.from), Number(wanted.to)];
    if (wanted.from !== undefined && to > from) time.span(from, to);
    else if (state.txn !== null) time.refold();
    else if (line !== null && state.mode === 'time') time.span(time.byLine.get(line).ms - 150, time.byLine.get(line).ms + 150);
    else time.span(...(state.mode === 'time' ? [run.focus.from_ms, run.focus.to_ms] : time.bounds()));
    time.changed();
  }
  window.addEventListener('hashchange', followAddress);
  window.addEventListener('beforeprint', () => { for (const details of root.querySelectorAll('details')) details.open = true; });

  root.replaceChildren(...[header, story, promises, section, why, anomaly, transactions, plan, figures].filter((part) => part));
  ready = true;
  if (location.hash.length > 1) followAddress();
  else if (run.focus.line !== null && time.byLine.has(run.focus.line)) state.line = run.focus.line;
  time.sift();
  refresh();
  time.draw();
}

async function openPage() {
  const root = document.getElementById('page');
  try {
    const data = await readData();
    if (data.page === 'run') runPage(data, root);
    else if (data.page === 'sweep') sweepPage(data, root);
    else comparisonPage(data, root);
  } catch (broken) {
    root.replaceChildren(el('p', { class: 'note', role: 'alert' }, 'The page cannot be shown: ' + broken.message));
    throw broken;
  } finally {
    root.removeAttribute('aria-busy');
  }
}
addEventListener('DOMContentLoaded', openPage);
