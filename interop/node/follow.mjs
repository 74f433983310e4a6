// Follows an event URL with a client that people use, and prints what it sees: a JSON line `{type, data, id}` per event.
//
//   node follow.mjs eventsource|eventsource-client|fetch <url> [names of events, separated by commas]
//
// `eventsource` is the npm package's EventSource, `eventsource-client` another implementation, `fetch` a plain long poll.
// Ends when the server says that the channel has ended.

import { createEventSource } from 'eventsource-client';
import { EventSource } from 'eventsource';

const [client, url, names = ''] = process.argv.slice(2);
const listened = ['message', 'stream-reset', 'stream-end', ...names.split(',').filter(Boolean)];
const print = (type, data, id) => console.log(JSON.stringify({ type, data, id }));

const clients = {
  eventsource() {
    const source = new EventSource(url);
    for (const name of listened) {
      source.addEventListener(name, ({ type, data, lastEventId }) => print(type, data, lastEventId));
    }
    source.addEventListener('error', ({ code }) => {
      if (source.readyState === EventSource.CLOSED) print('closed', String(code ?? ''), '');
    });
  },

  'eventsource-client'() {
    const source = createEventSource({
      url,
      onMessage({ event = 'message', data, id = '' }) {
        if (listened.includes(event)) print(event, data, id);
      },
      onDisconnect() {
        if (source?.readyState === 'closed') print('closed', '', '');
      },
    });
  },

  async fetch() {
    for (let next = new URL(url); ; ) {
      const response = await fetch(next).catch(() => null); // cut: ask again from the same cursor
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
