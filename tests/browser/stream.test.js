// The chat's `stream.js` alone, in front of the event server: what it hands over, event by event, when the way to the server
// or the server itself changes under it. Nothing here takes doubles away.

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
  const way = await proxy(test, server.url);
  const page = await open(test);
  await page.route('**/stream.js', (route) => route.fulfill({ path: SCRIPT }));
  await page.route('**/page', (route) => route.fulfill({ contentType: 'text/html', body: PAGE(transport, channels) }));
  await page.goto(`${way.url}/page`);
  const restart = () => serve(test, 'server', { port: server.port, args });
  return { server, way, page, restart };
}

const state = (page, wanted) => page.waitForFunction((wanted) => window.state === wanted, wanted);

async function saw(page, wanted, resets = []) {
  const settled = ([count, last, resets]) => window.seen?.length >= count && seen.at(-1) === last && window.resets.length >= resets;
  await page.waitForFunction(settled, [wanted.length, wanted.at(-1), resets.length]).catch(() => {}); // the difference says more
  assert.deepEqual(await page.evaluate(() => [window.seen, window.resets]), [wanted, resets]);
}

/** Waits until the server counts so many open streams and parked polls. */
async function readers(url, wanted) {
  const deadline = Date.now() + 20_000;
  for (let is; is !== wanted; ) {
    assert.ok(Date.now() < deadline, `${is} readers, not ${wanted}`);
    is = (await (await fetch(`${url}/healthz`)).json()).readers;
  }
}

for (const [transport, live] of BOTH) {
  test(`${transport}: a connection that is cut goes on after the last event`, options, async (t) => {
    const { server, way, page } = await setUp(t, transport);
    await state(page, live);
    const all = [];
    for (let round = 0; round < 3; round++) {
      await publish(server.url, `before ${round}`);
      await saw(page, [...all, `before ${round}`]);
      way.down = true;
      way.cut();
      await state(page, 'reconnecting');
      await publish(server.url, `meanwhile ${round}`);
      way.down = false;
      all.push(`before ${round}`, `meanwhile ${round}`);
      await saw(page, all);
      await state(page, live);
    }
  });

  test(`${transport}: a stopped server sends its readers away, and has them back`, options, async (t) => {
    const { server, page, restart } = await setUp(t, transport, ['--drain', '1']);
    await publish(server.url, 'one');
    await saw(page, ['one']);
    await server.stop();
    await state(page, 'reconnecting');
    const { url } = await restart();
    await publish(url, 'two');
    await saw(page, ['one', 'two'], ['epoch-changed']); // a memory store begins anew
    await state(page, live);
  });

  test(`${transport}: who was away for too long is told, and gets what is left`, options, async (t) => {
    const { server, way, page } = await setUp(t, transport, ['--retention-events', '2', '--ring-bytes', '1']);
    await publish(server.url, 0);
    await saw(page, [0]);
    way.down = true;
    way.cut();
    await state(page, 'reconnecting');
    for (let n = 1; n <= 20; n++) await publish(server.url, n);
    way.down = false;
    await page.waitForFunction(() => seen.at(-1) === 20);
    const [seen, resets] = await page.evaluate(() => [window.seen, window.resets]);
    assert.deepEqual(resets, ['trimmed']);
    assert.ok(seen.length >= 3 && seen.length <= 5, `${seen}`); // 2 to 4 are kept
    assert.deepEqual(seen, [0, ...[17, 18, 19, 20].slice(1 - seen.length)]);
  });

  test(`${transport}: the others go on when one of several channels ends`, options, async (t) => {
    const { server, page } = await setUp(t, transport, [], 'channel=a&channel=b');
    await publish(server.url, 'one', { 'events-closed': 'true' });
    await saw(page, ['one']);
    await publish(server.url, 'two', {}, 'b');
    await saw(page, ['one', 'two']);
    await publish(server.url, 'three', { 'events-closed': 'true' }, 'b');
    await saw(page, ['one', 'two', 'three']);
    await state(page, 'ended');
  });

  test(`${transport}: a channel that is closed ends`, options, async (t) => {
    const { server, way, page } = await setUp(t, transport);
    await publish(server.url, 'one');
    await publish(server.url, 'two', { 'events-closed': 'true' });
    await saw(page, ['one', 'two']);
    await state(page, 'ended');
    const asked = way.requests.length;
    await page.evaluate(() => dispatchEvent(new Event('online')));
    assert.equal(way.requests.length, asked);
  });
}

test('the fallback goes on from the cursor that SSE left', options, async (t) => {
  const { server, way, page } = await setUp(t);
  await state(page, 'live-sse');
  for (const text of ['one', 'two']) await publish(server.url, text);
  await saw(page, ['one', 'two']);

  way.sse = 'hold';
  way.cut();
  await publish(server.url, 'three');
  await state(page, 'live-poll');
  await saw(page, ['one', 'two', 'three']);
  await publish(server.url, 'four');
  await saw(page, ['one', 'two', 'three', 'four']);

  const resumed = way.requests.filter(({ accept }) => accept === 'text/event-stream').at(-1);
  const polls = way.requests.filter(({ accept }) => accept === 'application/json');
  assert.ok(resumed.lastEventId, 'EventSource resumed by itself first');
  assert.equal(polls[0].url.searchParams.get('after'), resumed.lastEventId);
  await readers(server.url, 1); // the stream is not left open
});

test('SSE is taken up again where long polling was', options, async (t) => {
  const { server, way, page } = await setUp(t);
  way.sse = 'hold';
  way.cut();
  await publish(server.url, 'one');
  await state(page, 'live-poll');
  await saw(page, ['one']);
  way.sse = 'pass';
  await page.evaluate(() => dispatchEvent(new Event('online')));
  await state(page, 'live-sse');
  await publish(server.url, 'two');
  await saw(page, ['one', 'two']);
});
