// The clock example: both of its streams, and a restart of the server.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { open, options, picture, serve } from './harness.js';

const count = (page, kind, least) =>
  page.waitForFunction(([kind, least]) => document.querySelectorAll(`#log li[data-kind="${kind}"]`).length >= least, [kind, least]);
const kinds = (page) => page.locator('#log li').evaluateAll((lines) => lines.map((line) => line.dataset.kind).reverse());

test('/clock is one endless response, and the page shows when the server is down', options, async (t) => {
  const first = await serve(t, 'clock');
  const page = await open(t, first.url);
  await count(page, 'message', 2);
  await count(page, 'chime', 1);
  assert.match(await page.locator('#log li[data-kind="message"] pre').first().textContent(), /^server time: \d\d:\d\d:\d\d UTC\nup for \d+ s\n?id [\w-]+$/s);
  assert.equal((await kinds(page)).filter((kind) => kind === 'open').length, 1);
  const shown = await page.locator('#now').textContent();
  await page.waitForFunction((shown) => document.getElementById('now').textContent !== shown, shown);

  await first.stop();
  await count(page, 'error', 1);
  await page.locator('#state[data-state="connecting"]').waitFor();
  await page.getByRole('button', { name: 'Clear' }).click();
  await serve(t, 'clock', { port: first.port });
  await count(page, 'open', 1);
  await count(page, 'message', 2);
  await page.locator('#state[data-state="open"]').waitFor();
  await picture(page, 'clock-desktop-light');

  await page.getByRole('button', { name: 'Stop' }).click();
  await page.locator('#state[data-state="closed"]').waitFor();
});

test('/once ends after each event, and the page reconnects for ever', options, async (t) => {
  const { url } = await serve(t, 'clock');
  const page = await open(t, url, { viewport: { width: 390, height: 844 }, isMobile: true, colorScheme: 'dark' });
  await page.getByLabel('/once').check();
  await page.getByRole('button', { name: 'Clear' }).click();
  await count(page, 'message', 5);
  const order = (await kinds(page)).join(' ');
  assert.match(order, /(open message error ){3}/);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
  await picture(page, 'clock-phone-dark');
});
