// A page from another origin: each transport through tower-http's CorsLayer, and what happens without it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { host, open, options, publish, serve } from './harness.js';

async function setUp(test, ...args) {
  const { url } = await serve(test, 'server', { args });
  const page = await open(test, await host(test, '<!doctype html><title>elsewhere</title>'));
  return { url, page };
}

test('EventSource reads across origins', options, async (t) => {
  const { url, page } = await setUp(t, '--cors');
  await publish(url, 'one');
  const received = page.evaluate((url) => new Promise((resolve) => {
    const source = new EventSource(`${url}/events?channel=a&after=earliest`);
    const received = [];
    source.onmessage = ({ data }) => {
      received.push(data);
      if (received.length === 2) resolve(received);
    };
    window.source = source;
  }), url);
  await page.waitForFunction(() => window.source?.readyState === EventSource.OPEN);
  await publish(url, 'two');
  assert.deepEqual(await received, ['one', 'two']);
});

test('a long poll reads across origins, and sees its cursor', options, async (t) => {
  const { url, page } = await setUp(t, '--cors');
  const poll = (query, headers) => page.evaluate(async ([address, headers]) => {
    const response = await fetch(address, { headers });
    const header = (name) => response.headers.get(name);
    return { status: response.status, events: await response.json(), cursor: header('last-event-id'), reset: header('events-reset') };
  }, [`${url}/events?channel=a&${query}`, headers]);

  const empty = await poll('after=latest&wait=0', { accept: 'application/json' });
  assert.deepEqual([empty.status, empty.events], [200, []]);
  assert.ok(empty.cursor, 'Last-Event-ID is exposed');
  await publish(url, { n: 1 });
  const one = await poll(`after=${empty.cursor}&wait=10`, { accept: 'application/json' });
  assert.deepEqual(one.events.map(({ data }) => data), [{ n: 1 }]);
  await publish(url, { n: 2 });
  const two = await poll('wait=10', { accept: 'application/json', 'last-event-id': one.cursor, prefer: 'wait=10' });
  assert.deepEqual(two.events.map(({ data }) => data), [{ n: 2 }]);
  const lost = await poll('wait=0', { accept: 'application/json', 'last-event-id': 'nonsense' });
  assert.equal(lost.reset, 'unknown');
});

test('headers that clients send unasked are allowed across origins', options, async (t) => {
  const { url, page } = await setUp(t, '--cors');
  for (const name of ['cache-control', 'authorization', 'x-requested-with']) {
    const status = await page.evaluate(async ([address, name]) => {
      const response = await fetch(address, { headers: { [name]: 'x' } }).catch(() => null);
      return response?.status;
    }, [`${url}/events?channel=a&wait=0`, name]);
    assert.equal(status, 200, name);
  }
});

test('a script publishes across origins', options, async (t) => {
  const { url, page } = await setUp(t, '--cors');
  const send = () => page.evaluate(async (url) => {
    const headers = { 'content-type': 'application/json', 'idempotency-key': 'k1' };
    const response = await fetch(`${url}/publish?channel=a`, { method: 'POST', headers, body: '"x"' });
    return [response.status, (await response.json()).id];
  }, url);
  const [status, id] = await send();
  assert.equal(status, 200);
  assert.deepEqual(await send(), [200, id]);
});

test('without CORS the browser blocks other origins', options, async (t) => {
  const { url, page } = await setUp(t);
  const closed = await page.evaluate((url) => new Promise((resolve) => {
    const source = new EventSource(`${url}/events?channel=a`);
    source.onerror = () => resolve(source.readyState === EventSource.CLOSED);
  }), url);
  assert.equal(closed, true);
  const refused = await page.evaluate((url) => fetch(`${url}/events?channel=a&wait=0`).then(() => false, () => true), url);
  assert.equal(refused, true);
});
