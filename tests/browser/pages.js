// Uses the pages of `ordain` as a person would, in headless Chromium. Called by tests/browser/run.
'use strict';
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { chromium } = require('playwright-core');

const pages = path.resolve(process.argv[2]);
const shots = path.dirname(pages);
let browser;
let passed = 0;

/** Opens a page of the folder, and sees to it that nothing leaves the page and nothing goes wrong in it. */
async function opened(file, options, use) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 1000 }, ...options });
  const page = await context.newPage();
  // A busy machine is no error.
  page.setDefaultTimeout(180_000);
  const protocol = await context.newCDPSession(page);
  await protocol.send('Performance.enable');
  const wrong = [];
  const address = 'file://' + path.join(pages, file);
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) wrong.push('console: ' + message.text()); });
  page.on('pageerror', (error) => wrong.push('error: ' + error.stack));
  page.on('dialog', (dialog) => { wrong.push('dialog: ' + dialog.message()); dialog.dismiss(); });
  page.on('request', (request) => { if (!request.url().startsWith(address) && !request.url().startsWith('data:')) wrong.push('request: ' + request.url()); });
  await page.goto(address + (options.hash || ''));
  await ready(page);
  // CPU time, which other work on the machine does not add to.
  const { metrics } = await protocol.send('Performance.getMetrics');
  await use(page, metrics.find((metric) => metric.name === 'ThreadTime').value);
  assert.deepEqual(wrong, [], file);
  await context.close();
}

async function ready(page) {
  await page.waitForSelector('#page:not([aria-busy])');
  assert.equal(await page.locator('[role=alert]').count(), 0, 'the page could not be shown');
  if (await page.locator('.stage').count()) await page.waitForFunction(() => document.querySelector('.stage').dataset.drawn);
}

async function test(fact, run) {
  await run();
  passed++;
  console.log('ok   ' + fact);
}

/** How many frames the timeline has drawn. */
const drawn = (page) => page.evaluate(() => Number(document.querySelector('.stage').dataset.drawn));
/** How many events are in view, by the sentence below the timeline. */
const inView = async (page) => Number((await page.textContent('#said')).match(/^(\d+)/)[1]);
const passing = async (page) => Number((await page.textContent('#said')).match(/; (\d+) of/)[1]);
const hash = (page) => page.evaluate(() => location.hash);

async function failing() {
  await opened('failing/report.html', {}, async (page) => {
    await test('the first screen names the broken promise, its transactions and the command', async () => {
      const first = await page.evaluate(() => [...document.querySelectorAll('#page > header, #page > section')].slice(0, 2).map((part) => part.innerText).join('\n'));
      assert.match(first, /no-intermediate-states/);
      assert.match(first, /T\d+/);
      assert.match(first, /accounts\/\d+/);
      assert.match(first, /ordain replay/);
      assert.doesNotMatch(first, /TxnId|NodeId|ShardId/);
    });
    await test('a click on a transaction of the story keeps only its events', async () => {
      const before = await passing(page);
      await page.locator('.story a', { hasText: /^T\d+$/ }).first().click();
      const after = await passing(page);
      assert.ok(after > 0 && after < before / 4, `${after} of ${before}`);
      assert.match(await hash(page), /txn=T\d+/);
      assert.match(await page.textContent('#said'), /folded away/);
      assert.match(await page.textContent('#selected'), /taken charge of/);
    });
    await test('what led to it and what followed are larger parts of the run, and everything is all of it', async () => {
      const own = await passing(page);
      await page.click('[data-fold=past]');
      const past = await passing(page);
      await page.click('[data-fold=future]');
      const future = await passing(page);
      await page.click('[data-fold=all]');
      const all = await passing(page);
      assert.ok(own < past && past < all && own < future && future < all, `${own} ${past} ${future} ${all}`);
      await page.click('#let-go');
      assert.ok(await page.isHidden('#folds'));
    });
    await test('the filter keeps what it says', async () => {
      const before = await passing(page);
      await page.fill('#filter', 'east/front0');
      await page.waitForFunction((n) => Number(document.querySelector('#said').textContent.match(/; (\d+) of/)[1]) < n, before);
      await page.evaluate(() => { document.querySelector('#listed').open = true; });
      await page.click('#whole');
      await page.waitForSelector('#listed li button');
      for (const text of (await page.locator('#listed li:has(button)').allTextContents()).slice(0, 50)) {
        assert.match(text, /east\/front0|the world|crashed|restarted/, text);
      }
      await page.fill('#filter', 'nothing has this name');
      await page.waitForFunction(() => / 0 of/.test(document.querySelector('#said').textContent));
      await page.fill('#filter', '');
      await page.waitForFunction((n) => Number(document.querySelector('#said').textContent.match(/; (\d+) of/)[1]) >= n, before);
    });
    await test('zooming in shows less, zooming out more, and the whole run all', async () => {
      await page.click('#whole');
      const all = await inView(page);
      await page.click('#zoom-in');
      await page.click('#zoom-in');
      const some = await inView(page);
      assert.ok(some < all, `${some} ${all}`);
      await page.click('#zoom-out');
      assert.ok((await inView(page)) >= some);
      await page.click('#whole');
      assert.equal(await inView(page), all);
    });
    await test('true time and event order change places', async () => {
      const frames = await drawn(page);
      await page.click('#mode-order');
      assert.equal(await page.getAttribute('#mode-order', 'aria-pressed'), 'true');
      assert.match(await hash(page), /mode=order/);
      await page.waitForFunction((n) => Number(document.querySelector('.stage').dataset.drawn) > n, frames);
      await page.screenshot({ path: path.join(shots, 'failing-order.png') });
      await page.click('#mode-time');
      assert.doesNotMatch(await hash(page), /mode=order/);
    });
    await test('the keyboard steps from event to event, and Enter picks the transaction', async () => {
      await page.click('#failure');
      await page.focus('#lanes');
      await page.keyboard.press('ArrowRight');
      const one = Number((await hash(page)).match(/line=(\d+)/)[1]);
      await page.keyboard.press('ArrowRight');
      const two = Number((await hash(page)).match(/line=(\d+)/)[1]);
      assert.ok(two > one, `${one} ${two}`);
      await page.keyboard.press('ArrowLeft');
      assert.equal(Number((await hash(page)).match(/line=(\d+)/)[1]), one);
      await page.keyboard.press('Escape');
      assert.doesNotMatch(await hash(page), /line=/);
    });
    await test('the pointer shows what an event says', async () => {
      await page.click('#failure');
      await page.locator('#lanes').scrollIntoViewIfNeeded();
      const box = await page.locator('#lanes').boundingBox();
      let seen = '';
      for (let y = 20; y < Math.min(box.height, 600) && !seen; y += 6) {
        for (let x = 40; x < box.width && !seen; x += 9) {
          await page.mouse.move(box.x + x, box.y + y);
          if (await page.isVisible('.tip')) seen = await page.textContent('.tip');
        }
      }
      assert.match(seen, /ms|T\d+/);
    });
    await test('what made it fail is told, with the share over time', async () => {
      const why = await page.textContent('section:has(> #why)');
      assert.match(why, /of 6 runs fail in the same way/);
      assert.match(why, /It passes without T\d+/);
      assert.ok((await page.locator('section:has(> #why) svg circle').count()) >= 2);
    });
    await test('light and dark differ', async () => {
      const colour = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const before = await colour();
      await page.click('#theme');
      assert.notEqual(await colour(), before);
      await page.screenshot({ path: path.join(shots, 'failing-dark.png'), fullPage: true });
    });
  });
  let link;
  await opened('failing/report.html', {}, async (page) => {
    await page.locator('.story a', { hasText: /^T\d+$/ }).first().click();
    await page.click('#mode-order');
    link = await hash(page);
    await page.screenshot({ path: path.join(shots, 'failing.png'), fullPage: true });
  });
  await opened('failing/report.html', { hash: link }, async (page) => {
    await test('a permalink opens what it was made of', async () => {
      assert.equal(await page.getAttribute('#mode-order', 'aria-pressed'), 'true');
      const txn = link.match(/txn=(T\d+)/)[1];
      assert.match(await page.textContent('#selected'), new RegExp(txn));
      await page.evaluate(() => { location.hash = '#line=5'; });
      await page.waitForFunction(() => document.querySelector('#mode-time').getAttribute('aria-pressed') === 'true');
    });
  });
  for (const [name, options] of [['400', { viewport: { width: 400, height: 800 } }], ['print', {}]]) {
    await opened('failing/report.html', options, async (page) => {
      if (name === 'print') await page.emulateMedia({ media: 'print' });
      await page.screenshot({ path: path.join(shots, `failing-${name}.png`), fullPage: true });
      if (name === '400') {
        await test('at 400 pixels nothing is wider than the screen', async () => {
          assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
        });
      }
    });
  }
}

async function long() {
  const file = path.join(pages, 'long/report.html');
  await opened('long/report.html', {}, async (page, seconds) => {
    await test('a run of a hundred thousand events fits into 5 MB, and says what it leaves out', async () => {
      const lines = Number((await page.textContent('#said')).match(/of (\d+) pass/)[1]);
      const megabytes = fs.statSync(file).size / 1e6;
      console.log(`     ${lines} events, ${megabytes.toFixed(2)} MB, opened in ${seconds.toFixed(2)} s of CPU time`);
      assert.ok(seconds < 2, `${seconds} s`);
      assert.ok(lines >= 90_000, `${lines} events are too few for this test`);
      assert.ok(megabytes < 5, `${megabytes} MB`);
      const note = await page.locator('.note').allTextContents();
      assert.match(note.join(), /events are left out/);
    });
    await test('all of it can be looked at', async () => {
      await page.click('#whole');
      await page.screenshot({ path: path.join(shots, 'long.png') });
      await page.click('#failure').catch(() => {});
    });
  });
}

async function comparison() {
  await opened('comparison.html', {}, async (page) => {
    await test('a comparison says in sentences what came out, and draws every protocol', async () => {
      const story = await page.locator('.story p').allTextContents();
      assert.equal(story.length, 3);
      assert.match(story.join('\n'), /2pc/);
      const protocols = await page.locator('#legend input').count();
      assert.ok(protocols >= 3);
      const paths = () => page.locator('.multiples figure:first-child svg path').count();
      assert.equal(await paths(), protocols);
      await page.locator('#legend input').first().click();
      assert.equal(await paths(), protocols - 1);
      await page.locator('#legend input').first().click();
      await page.click('#outage');
      await page.click('#whole');
    });
    await page.screenshot({ path: path.join(shots, 'comparison.png'), fullPage: true });
  });
  await opened('comparison.html', { viewport: { width: 400, height: 800 }, colorScheme: 'dark' }, async (page) => {
    await page.screenshot({ path: path.join(shots, 'comparison-400.png'), fullPage: true });
    await test('the comparison fits 400 pixels', async () => {
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    });
  });
}

/** Names that a page must show and not run, wherever the data has a text. */
const HOSTILE = ['<script>alert(1)</script>', '</script><img src=x onerror=alert(2)>', '"\'><svg onload=alert(3)>', '\u202Etxet thgir ot tfel', 'x'.repeat(3000), '{{text}}', 'javascript:alert(4)'];

async function sweep() {
  await opened('sweep.html', {}, async (page) => {
    await test('a sweep draws a curve with points for each protocol, in a row of pictures for each choice', async () => {
      assert.equal(await page.locator('.multiples').count(), 2);
      const protocols = await page.locator('#legend input').count();
      const circles = () => page.locator('.multiples figure').first().locator('circle').count();
      assert.equal(await circles(), 3 * protocols);
      await page.locator('#legend input').first().click();
      assert.equal(await circles(), 3 * (protocols - 1));
      await page.locator('#legend input').first().click();
      await page.click('details > summary');
    });
    await page.screenshot({ path: path.join(shots, 'sweep.png'), fullPage: true });
  });
  await opened('sweep.html', { viewport: { width: 400, height: 800 }, colorScheme: 'dark' }, async (page) => {
    await page.screenshot({ path: path.join(shots, 'sweep-400.png'), fullPage: true });
    await test('the sweep fits 400 pixels', async () => {
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    });
  });
}

async function hostile() {
  await opened('hostile.html', {}, async (page) => {
    await test('a hostile scenario is shown and not run', async () => {
      assert.match(await page.textContent('header'), /<script>alert\(1\)<\/script>/);
      assert.match(await page.textContent('header'), /⟨U\+202E⟩/);
      assert.equal(await page.locator('img').count(), 0);
    });
  });
  // Every text of the data at once.
  const html = fs.readFileSync(path.join(pages, 'hostile.html'), 'utf8');
  const began = html.indexOf('>', html.indexOf('<script id="data"')) + 1;
  const data = html.slice(began, html.indexOf('</script>', began));
  const packed = html.includes('application/gzip+base64">');
  const json = packed ? require('node:zlib').gunzipSync(Buffer.from(data, 'base64')).toString() : data;
  let count = 0;
  const keep = new Set(['page', 'tone', 'kind', 'status', 'outcome', 'to']);
  const poisoned = (value, key) => {
    if (typeof value === 'string') return keep.has(key) || /^(boot|timer|flush|flush-failed|fact|crash|restart|panic|halt|fault|fault-ended|phase)$/.test(value) ? value : HOSTILE[count++ % HOSTILE.length] + value;
    if (Array.isArray(value)) return value.map((each) => poisoned(each));
    if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, poisoned(each, name)]));
    return value;
  };
  const inert = JSON.stringify(poisoned(JSON.parse(json))).replace(/[<>&\u2028\u2029]/g, (c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'));
  const element = `<script id="data" type="application/json">${inert}</script>`;
  const start = html.lastIndexOf('<', began - 2);
  fs.writeFileSync(path.join(pages, 'poisoned.html'), html.slice(0, start) + element + html.slice(html.indexOf('</script>', began) + 9));
  await opened('poisoned.html', {}, async (page) => {
    await test(`${count} hostile texts are shown and not run`, async () => {
      assert.ok(count > 100);
      await page.click('#whole');
      await page.click('#mode-order');
      await page.evaluate(() => { document.querySelector('#listed').open = true; });
      await page.locator('#listed li button').first().click();
      await page.locator('section table button').first().click();
      assert.equal(await page.locator('img, #page script, svg[onload], a[href^="javascript"]').count(), 0);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
      await page.screenshot({ path: path.join(shots, 'hostile.png') });
    });
  });
}

(async () => {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ['--no-sandbox'] });
  try {
    for (const part of [failing, long, comparison, sweep, hostile]) await part();
  } finally {
    await browser.close();
  }
  console.log(`${passed} facts hold; screenshots are in ${path.relative('.', shots)}`);
})().catch((error) => { console.error(error); process.exitCode = 1; });
