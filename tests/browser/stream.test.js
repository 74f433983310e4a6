// The chat's `stream.js` on its own, with the event server: which events it delivers when the connection or the server fails.
// Nothing here removes duplicates.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { open, options, proxy, publish, serve } from './harness.js';

const SCRIPT = fileURLToPath(new URL('../../examples/chat/stream.js', import.meta.url));
const PAGE = (transport, channels) => `<!doctype html><title>stream</title><script type="module">
  import { follow } from '/stream.js';
  window.seen = [];
  window.resets = [];
  follow('/events?${channels}', {
    event: ({ data }) => seen.push(data),
    reset: (reason) => resets.push(reason),
    state: (name) => (window.state = name),
  }, { from: 'earliest', transport: '${transport}', fallbackMs: 500 });
</script>`;
const BOTH = [['sse', 'live-sse'], ['poll', 'live-poll']];

async function setUp(test, transport = 'auto', args = [], channels = 'channel=a') {
  const server = await serve(test, 'server', { args });
  const between = await proxy(test, server.url);
  const page = await open(test);
  await page.route('**/stream.js', (route) => route.fulfill({ path: SCRIPT }));
  await page.route('**/page', (route) => route.fulfill({ contentType: 'text/html', body: PAGE(transport, channels) }));
  await page.goto(`${between.url}/page`);
  const restart = () => serve(test, 'server', { port: server.port, args });
  return { server, between, page, restart };
}

const state = (page, wanted) => page.waitForFunction((wanted) => window.state === wanted, wanted);

async function saw(page, wanted, resets = []) {
  const settled = ([count, last, resets]) => window.seen?.length >= count && seen.at(-1) === last && window.resets.length >= resets;
  await page.waitForFunction(settled, [wanted.length, wanted.at(-1), resets.length]).catch(() => {}); // the diff below says more
  assert.deepEqual(await page.evaluate(() => [window.seen, window.resets]), [wanted, resets]);
}

/** Waits until the server has `wanted` open streams and waiting polls. */
async function waitForReaders(url, wanted) {
  const deadline = Date.now() + 20_000;
  for (let is; is !== wanted; ) {
    assert.ok(Date.now() < deadline, `${is} readers, not ${wanted}`);
    is = (await (await fetch(`${url}/healthz`)).json()).readers;
  }
}

for (const [transport, live] of BOTH) {
  test(`${transport}: a connection that is cut resumes after the last event`, options, async (t) => {
    const { server, between, page } = await setUp(t, transport);
    await state(page, live);
    const all = [];
    for (let round = 0; round < 3; round++) {
      await publish(server.url, `before ${round}`);
      await saw(page, [...all, `before ${round}`]);
      between.down = true;
      between.cut();
      await state(page, 'reconnecting');
      await publish(server.url, `meanwhile ${round}`);
      between.down = false;
      all.push(`before ${round}`, `meanwhile ${round}`);
      await saw(page, all);
      await state(page, live);
    }
  });

  test(`${transport}: readers of a stopped server reconnect when it is back`, options, async (t) => {
    const { server, page, restart } = await setUp(t, transport, ['--drain', '1']);
    await publish(server.url, 'one');
    await saw(page, ['one']);
    await server.stop();
    await state(page, 'reconnecting');
    const { url } = await restart();
    await publish(url, 'two');
    await saw(page, ['one', 'two'], ['epoch-changed']); // a memory store starts empty
    await state(page, live);
  });

  test(`${transport}: a client that was away for too long is reset, and gets what is retained`, options, async (t) => {
    const { server, between, page } = await setUp(t, transport, ['--retention-events', '2', '--ring-bytes', '1']);
    await publish(server.url, 0);
    await saw(page, [0]);
    between.down = true;
    between.cut();
    await state(page, 'reconnecting');
    for (let n = 1; n <= 20; n++) await publish(server.url, n);
    between.down = false;
    await page.waitForFunction(() => seen.at(-1) === 20);
    const [seen, resets] = await page.evaluate(() => [window.seen, window.resets]);
    assert.deepEqual(resets, ['trimmed']);
    assert.ok(seen.length >= 3 && seen.length <= 5, `${seen}`); // 2 to 4 are kept
    assert.deepEqual(seen, [0, ...[17, 18, 19, 20].slice(1 - seen.length)]);
  });

  test(`${transport}: when one of several channels ends, the others continue`, options, async (t) => {
    const { server, page } = await setUp(t, transport, [], 'channel=a&channel=b');
    await publish(server.url, 'one', { 'events-closed': 'true' });
    await saw(page, ['one']);
    await publish(server.url, 'two', {}, 'b');
    await saw(page, ['one', 'two']);
    await publish(server.url, 'three', { 'events-closed': 'true' }, 'b');
    await saw(page, ['one', 'two', 'three']);
    await state(page, 'ended');
  });

  test(`${transport}: after a close nothing reconnects`, options, async (t) => {
    const { server, between, page } = await setUp(t, transport);
    await publish(server.url, 'one');
    await publish(server.url, 'two', { 'events-closed': 'true' });
    await saw(page, ['one', 'two']);
    await state(page, 'ended');
    const requests = between.requests.length;
    await page.evaluate(() => dispatchEvent(new Event('online')));
    assert.equal(between.requests.length, requests);
  });
}

test('the fallback continues from the last cursor of SSE', options, async (t) => {
  const { server, between, page } = await setUp(t);
  await state(page, 'live-sse');
  for (const text of ['one', 'two']) await publish(server.url, text);
  await saw(page, ['one', 'two']);

  between.sse = 'hold';
  between.cut();
  await publish(server.url, 'three');
  await state(page, 'live-poll');
  await saw(page, ['one', 'two', 'three']);
  await publish(server.url, 'four');
  await saw(page, ['one', 'two', 'three', 'four']);

  const resumed = between.requests.filter(({ accept }) => accept === 'text/event-stream').at(-1);
  const polls = between.requests.filter(({ accept }) => accept === 'application/json');
  assert.ok(resumed.lastEventId, 'EventSource resumed by itself first');
  assert.equal(polls[0].url.searchParams.get('after'), resumed.lastEventId);
  await waitForReaders(server.url, 1); // the stream is not left open
});

test('SSE continues from the last cursor of long polling', options, async (t) => {
  const { server, between, page } = await setUp(t);
  between.sse = 'hold';
  between.cut();
  await publish(server.url, 'one');
  await state(page, 'live-poll');
  await saw(page, ['one']);
  between.sse = 'pass';
  await page.evaluate(() => dispatchEvent(new Event('online')));
  await state(page, 'live-sse');
  await publish(server.url, 'two');
  await saw(page, ['one', 'two']);
});
