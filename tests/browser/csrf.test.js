// A hostile page on another origin: what it makes the browser send to the publish service is refused.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { host, open, options, publish, serve } from './harness.js';

/** Every way in which a page sends `text/plain` to another origin without a preflight. */
const FORGERIES = {
  fetch: (url) => void fetch(url, { method: 'POST', mode: 'no-cors', credentials: 'include', body: 'forged by fetch' }),
  beacon: (url) => navigator.sendBeacon(url, 'forged by beacon'),
  form: (url) => {
    const form = Object.assign(document.createElement('form'), { method: 'post', enctype: 'text/plain', action: url });
    form.append(Object.assign(document.createElement('input'), { name: 'forged', value: 'by form' }));
    document.body.append(form);
    form.submit();
  },
};

/** Lets a page of another origin send its forgeries, and returns what each was answered with. */
async function forge(test, url, origin) {
  const statuses = {};
  for (const [name, send] of Object.entries(FORGERIES)) {
    const page = await open(test, origin);
    const answered = page.waitForResponse((response) => response.url().startsWith(`${url}/publish`));
    await page.evaluate(send, `${url}/publish?channel=a`).catch(() => {}); // the form leaves the page
    statuses[name] = (await answered).status();
  }
  return statuses;
}

const published = async (url) => (await (await fetch(`${url}/events?channel=a&after=earliest&wait=0`)).json()).map(({ data }) => data);

test('a hostile page on another origin cannot publish', options, async (t) => {
  const { url } = await serve(t, 'server');
  const sameSite = await host(t, '<!doctype html><title>another port</title>');
  const crossSite = sameSite.replace('127.0.0.1', 'localhost');
  for (const origin of [sameSite, crossSite]) {
    assert.deepEqual(await forge(t, url, origin), { fetch: 403, beacon: 403, form: 403 }, origin);
  }
  assert.deepEqual(await published(url), []);

  const own = await open(t);
  await own.route('**/page', (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>own</title>' }));
  await own.goto(`${url}/page`);
  const status = await own.evaluate(async () => (await fetch('/publish?channel=a', { method: 'POST', body: 'own page' })).status);
  assert.equal(status, 200);
  await publish(url, 'no browser');
  assert.deepEqual(await published(url), ['own page', 'no browser']);
});

test('the same page can where every origin is trusted', options, async (t) => {
  const { url } = await serve(t, 'server', { args: ['--cors'] });
  const origin = (await host(t, '<!doctype html><title>elsewhere</title>')).replace('127.0.0.1', 'localhost');
  assert.deepEqual(await forge(t, url, origin), { fetch: 200, beacon: 200, form: 200 });
  assert.deepEqual((await published(url)).length, 3);
});
