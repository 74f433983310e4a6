// Chromium's EventSource, and the libraries that pages use instead, on connections that are cut before the first event.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { open, options, proxy, publish, serve } from './harness.js';

const MODULES = fileURLToPath(new URL('node_modules', import.meta.url));

/** How a page follows `url` with each client: passes everything that it receives to `see`. */
const CLIENTS = {
  EventSource: `listen(new EventSource(url));`,
  'event-source-polyfill': `
    await import('/event-source-polyfill/src/eventsource.js');
    listen(new EventSourcePolyfill(url));`,
  'sse.js': `
    const { SSE } = await import('/sse.js/lib/sse.js');
    listen(new SSE(url + '&transport=sse', { autoReconnect: true }));`,
  'fetch-event-source': `
    const { fetchEventSource } = await import('/@microsoft/fetch-event-source/lib/esm/fetch.js');
    fetchEventSource(url, {
      onmessage: ({ event, data }) => see({ type: event || 'message', data }),
      onclose: () => { throw new Error('reconnect after the end of a stream'); },
    });`,
};

const page = (client) => `<!doctype html><title>client</title><script type="module">
  window.seen = [];
  const url = '/events?channel=a';
  const see = ({ type, data }) => seen.push({ type, data });
  const listen = (source) => {
    for (const name of ['message', 'stream-live', 'stream-retry', 'stream-reset']) source.addEventListener(name, see);
  };
  ${CLIENTS[client]}
</script>`;

for (const client of Object.keys(CLIENTS)) {
  test(`${client} resumes before its first event, and receives no empty message`, options, async (t) => {
    const { url } = await serve(t, 'server');
    await publish(url, datum(0)); // published before the client connects, so not received
    const between = await proxy(t, url);
    const tab = await open(t);
    await tab.route('**/page', (route) => route.fulfill({ contentType: 'text/html', body: page(client) }));
    await tab.route(/\/(event-source-polyfill|sse\.js|@microsoft)\//, (route) => {
      const { pathname } = new URL(route.request().url());
      return route.fulfill({ path: MODULES + pathname + (pathname.endsWith('.js') ? '' : '.js') });
    });
    await tab.goto(`${between.url}/page`);
    const seen = () => tab.evaluate(() => window.seen);
    const has = (count) => tab.waitForFunction((count) => seen.filter(({ type }) => type === 'message').length >= count, count);

    await tab.waitForFunction(() => window.seen?.length > 0);
    assert.deepEqual(await seen(), [{ type: 'stream-live', data: '{}' }]);
    for (let n = 1; n <= 2; n++) {
      const requests = between.requests.length;
      between.cut();
      await publish(url, datum(n));
      assert.equal(between.requests.length, requests, 'the client is disconnected while this is published');
      await has(n);
    }
    await publish(url, datum(3));
    await has(3);
    const events = (await seen()).filter(({ type }) => type !== 'stream-live');
    assert.deepEqual(events.map(({ type, data }) => [type, JSON.parse(data)]), [1, 2, 3].map((n) => ['message', datum(n)]));
  });
}

/** Contains line separators and multi-byte characters. */
function datum(n) {
  return { n, text: 'Å\u0085b\u2028c\u2029ключ 🦀' };
}
