// The chat example, as its users see it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { database, shows, start, state, write } from './chat.js';
import { open, options, picture, proxy, say } from './harness.js';

const HOSTILE = '<img src=x onerror="window.hacked = 1"><script>window.hacked = 1</script> & "quoted"';

test('two tabs show each other\'s messages, as text', options, async (t) => {
  const { url } = await start(t, database(t));
  const [ada, bob] = [await open(t, url), await open(t, url)];
  await Promise.all([state(ada, 'live-sse'), state(bob, 'live-sse')]);
  assert.equal(await ada.locator('#empty').isVisible(), true);

  await write(ada, 'Ada', HOSTILE);
  await shows(bob, [HOSTILE]);
  await write(bob, '<b>Bob</b>', 'two\nlines, and ünïcödé 🦀');
  for (const page of [ada, bob]) {
    await shows(page, [HOSTILE, 'two\nlines, and ünïcödé 🦀']);
    assert.equal(await page.locator('#log :is(img, script)').count(), 0);
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    assert.deepEqual(await page.locator('#log li[data-id] .user').allTextContents(), ['Ada', '<b>Bob</b>']);
    assert.equal(await page.locator('#log .pending').count(), 0);
  }
  assert.deepEqual(await ada.locator('#log li.own .content').allTextContents(), [HOSTILE]);
  const time = await bob.locator('#log time').first().getAttribute('datetime');
  assert.ok(Math.abs(Date.now() - Date.parse(time)) < 60_000, time);
});

test('what hostile users write disturbs nothing around it', options, async (t) => {
  const { url } = await start(t, database(t));
  const name = '\u202egnp.exe\u2066</b><svg>';
  const contents = ['\u202e\u2067reversed', '\u001b[2J\u0000\u0007', 'x\u2028data: forged\u2029event: stream-reset', `"'><svg onload="window.hacked = 1">`];
  for (const content of contents) await say(url, name, content);
  for (const transport of ['sse', 'poll']) {
    const page = await open(t, `${url}/?transport=${transport}`);
    await shows(page, contents);
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    assert.equal(await page.locator('#log :is(script, svg)').count(), 0);
    assert.equal(await page.locator('#log .user').first().textContent(), name);
    // The direction of writing ends with the name: the time is still to its right.
    const [user, time] = [page.locator('#log .user').first(), page.locator('#log time').first()];
    const right = async (part) => (({ x, width }) => x + width)(await part.boundingBox());
    assert.ok((await time.boundingBox()).x >= (await right(user)), 'the time follows the name');
  }
});

test('a page that is opened later shows earlier messages', options, async (t) => {
  const { url } = await start(t, database(t));
  for (const content of ['first', 'second']) await say(url, 'Ada', content);
  for (const transport of ['sse', 'poll']) {
    const page = await open(t, `${url}/?transport=${transport}`);
    await state(page, `live-${transport}`);
    await shows(page, ['first', 'second']);
  }
});

for (const signal of ['kill', 'stop']) {
  test(`after a ${signal} and a restart every tab shows everything once`, options, async (t) => {
    const file = database(t);
    const first = await start(t, file);
    const pages = [await open(t, first.url), await open(t, `${first.url}/?transport=poll`)];
    await write(pages[0], 'Ada', 'before');
    for (const page of pages) await shows(page, ['before']);

    await first[signal]();
    for (const page of pages) await state(page, 'reconnecting');
    await write(pages[1], 'Bob', 'written while it was down');
    const failed = pages[1].locator('#log .failed');
    await failed.getByText('The server cannot be reached.').waitFor();

    const second = await start(t, file, { port: first.port });
    await say(second.url, 'Cyd', 'after');
    await state(pages[0], 'live-sse');
    await state(pages[1], 'live-poll');
    for (const page of pages) await shows(page, ['before', 'after']);

    await failed.getByRole('button', { name: 'Try again' }).click();
    for (const page of pages) await shows(page, ['before', 'after', 'written while it was down']);
    assert.equal(await pages[1].locator('#log li:is(.pending, .failed)').count(), 0);
  });
}

test('processes on one database are one chat', options, async (t) => {
  const file = database(t);
  const [here, there] = [await start(t, file), await start(t, file)];
  const [ada, bob] = [await open(t, here.url), await open(t, `${there.url}/?transport=poll`)];
  await Promise.all([state(ada, 'live-sse'), state(bob, 'live-poll')]);
  await write(ada, 'Ada', 'from here');
  await shows(bob, ['from here']);
  await write(bob, 'Bob', 'from there');
  for (const page of [ada, bob]) await shows(page, ['from here', 'from there']);
});

test('a refused message shows why, and can be sent again', options, async (t) => {
  const { url } = await start(t, database(t));
  const page = await open(t, url);
  const detail = 'Stored, but not yet announced.';
  const problem = { status: 503, contentType: 'application/problem+json', body: JSON.stringify({ title: 'Service Unavailable', detail }) };
  await page.route('**/chat', (route) => route.fulfill(problem), { times: 1 });
  await write(page, 'Ada', 'once only');
  await page.locator('#log .failed').getByText(detail).waitFor();
  await page.getByRole('button', { name: 'Try again' }).click();
  await shows(page, ['once only']);
  assert.equal(await page.locator('#log .failed').count(), 0);
});

test('a message is pending until the stream delivers it, before or after the response', options, async (t) => {
  const { url } = await start(t, database(t));
  const page = await open(t, url);
  const pending = page.locator('#log .pending');

  let respond;
  const responding = new Promise((resolve) => (respond = resolve));
  await page.route('**/chat', async (route) => {
    const response = await route.fetch();
    await responding;
    await route.fulfill({ response });
  }, { times: 1 });
  await write(page, 'Ada', 'stream first');
  await shows(page, ['stream first']);
  assert.equal(await pending.count(), 0);
  respond();

  await write(page, 'Ada', 'the server trims the end\u0085'); // white space to the server, not to the page
  await shows(page, ['stream first', 'the server trims the end']);
  await pending.waitFor({ state: 'detached' });
});

test('a message that was stored although the response was lost is written once', options, async (t) => {
  const { url } = await start(t, database(t));
  const page = await open(t);
  await page.route('**/events?*', (route) => route.abort()); // so that no stream delivers the message meanwhile
  await page.goto(url);
  await page.route('**/chat', async (route) => {
    await route.fetch();
    await route.abort();
  }, { times: 1 });
  await write(page, 'Ada', 'once only');
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.locator('#log .pending:not(.failed)').waitFor();
  await write(page, 'Ada', 'next');
  await page.unroute('**/events?*');
  await shows(page, ['once only', 'next']);
  await page.locator('#log .pending').first().waitFor({ state: 'detached' });
});

for (const sse of ['hold', 'buffer', 'refuse']) {
  test(`the page falls back to long polling when a proxy ${sse}s SSE`, options, async (t) => {
    const { url } = await start(t, database(t));
    await say(url, 'Ada', 'before');
    const between = await proxy(t, url);
    between.sse = sse;
    const page = await open(t, `${between.url}/?fallback_ms=500`);
    await state(page, 'live-poll');
    await write(page, 'Bob', 'through the proxy');
    await shows(page, ['before', 'through the proxy']);
    await say(url, 'Ada', 'past the proxy');
    await shows(page, ['before', 'through the proxy', 'past the proxy']);
  });
}

test('on a phone everything is visible, in light and dark', options, async (t) => {
  const { url } = await start(t, database(t));
  await talk(url);
  const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
  for (const colorScheme of ['light', 'dark']) {
    const page = await open(t, url, { ...phone, colorScheme });
    await state(page, 'live-sse');
    await page.getByLabel('Your name').fill('Bob');
    await page.locator('#log .own').first().waitFor();
    const fits = () => document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight;
    assert.equal(await page.evaluate(fits), true);
    for (const part of ['#send', '#content', '#user', '#state']) {
      const box = await page.locator(part).boundingBox();
      assert.ok(box.x >= 0 && box.x + box.width <= 390 && box.y >= 0 && box.y + box.height <= 844, part);
    }
    await picture(page, `chat-phone-${colorScheme}`);
    const desktop = await open(t, url, { viewport: { width: 1280, height: 800 }, colorScheme });
    await state(desktop, 'live-sse');
    await desktop.getByLabel('Your name').fill('Bob');
    await desktop.locator('#log .own').first().waitFor();
    await desktop.route('**/chat', (route) => route.abort());
    await write(desktop, 'Bob', 'This one does not get through.');
    await desktop.locator('#log .failed').waitFor();
    await picture(desktop, `chat-desktop-${colorScheme}`);
  }
});

async function talk(url) {
  await say(url, 'Ada', 'Good morning! Does anybody know why the build takes so long today?');
  await say(url, 'Bob', 'Morning. Two of us share the machine.');
  await say(url, 'Bob', 'It should be better after lunch:\n- tests are done\n- only the benchmarks go on');
  await say(url, 'Christiane-Alexandra von Hohenlohe', `https://example.org/${'very-long-'.repeat(14)}link`);
  await say(url, 'Ada', '<img src=x onerror=alert(1)> is only text here.');
  await say(url, 'Юля', 'Отлично, спасибо 🦀');
}
