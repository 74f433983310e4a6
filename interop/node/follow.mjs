// Follows an event URL with a popular client, and prints each event that it delivers as a JSON line `{type, data, id}`.
//
//   node follow.mjs <client> <url> [names of events, separated by commas]
//
// `eventsource`, `launchdarkly-eventsource` and `event-source-polyfill` have the API of EventSource, with listeners by name.
// `eventsource-client` and `fetch-event-source` pass everything to one function. `fetch` is a plain long poll, which stops
// when the server says that the channel has ended.

import { createRequire } from 'node:module';
import { createEventSource } from 'eventsource-client';
import { EventSource } from 'eventsource';

const require = createRequire(import.meta.url); // for CommonJS packages
const [client, url, names = ''] = process.argv.slice(2);
const marks = ['stream-live', 'stream-retry', 'stream-reset', 'stream-end'];
const listened = ['message', ...marks, ...names.split(',').filter(Boolean)];
const print = (type, data, id) => console.log(JSON.stringify({ type, data, id }));
const SOON = 20; // ms between a cut and the next connection, for clients that ignore `retry:`

const listen = (source) => {
  for (const name of listened) {
    source.addEventListener(name, ({ type, data, lastEventId }) => print(type, data, lastEventId));
  }
  source.addEventListener('error', ({ code }) => {
    if (source.readyState === 2) print('closed', String(code ?? ''), '');
  });
};

const clients = {
  eventsource() {
    listen(new EventSource(url));
  },

  'launchdarkly-eventsource'() {
    const { EventSource } = require('launchdarkly-eventsource');
    listen(new EventSource(url, { initialRetryDelayMillis: SOON }));
  },

  'event-source-polyfill'() {
    const { EventSourcePolyfill } = require('event-source-polyfill');
    console.error = () => {}; // it prints a page of text for each cut
    listen(new EventSourcePolyfill(url));
  },

  'eventsource-client'() {
    createEventSource({
      url,
      onMessage({ event = 'message', data, id = '' }) {
        print(event, data, id);
      },
    });
  },

  'fetch-event-source'() {
    globalThis.window = globalThis; // it is written for pages
    globalThis.document = new EventTarget();
    const { fetchEventSource } = require('@microsoft/fetch-event-source');
    return fetchEventSource(url, {
      onmessage: ({ event, data, id }) => print(event || 'message', data, id),
      onclose: () => {
        throw new Error('reconnect after the end of a stream');
      },
    });
  },

  async fetch() {
    for (let next = new URL(url); ; ) {
      const response = await fetch(next).catch(() => null); // cut: poll again from the same cursor
      if (!response) continue;
      if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
      const events = await response.json().catch(() => null);
      if (!events) continue;
      const reset = response.headers.get('events-reset');
      if (reset) print('stream-reset', reset, '');
      for (const { name, data, id } of events) print(name ?? 'message', JSON.stringify(data), id);
      if (response.headers.get('events-closed')) return print('stream-end', '', response.headers.get('last-event-id'));
      next.searchParams.delete('earliest');
      next.searchParams.delete('latest');
      next.searchParams.set('after', response.headers.get('last-event-id'));
    }
  },
};

await clients[client]();
