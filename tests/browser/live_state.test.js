// The examples dashboard and notifications: state that comes whole, then changes.

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { directory, open, options, picture, serve } from './harness.js';

const shown = (page, state) => page.locator(`body[data-state="${state}"]`).waitFor();

async function signIn(page, user) {
  await page.getByLabel('Your name').fill(user);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await shown(page, 'live');
}

async function send(page, to, text) {
  await page.getByLabel('To').fill(to);
  await page.getByLabel('Text').fill(text);
  await page.getByRole('button', { name: 'Send' }).click();
}

/** Waits until the page shows these unread texts, the newest first, and counts them. */
async function unread(page, texts) {
  const all = ([count]) => document.querySelectorAll('#list li').length === count;
  await page.waitForFunction(all, [texts.length]).catch(() => {}); // the diff below says more
  assert.deepEqual(await page.locator('#list li p span').allTextContents(), texts);
  assert.equal(await page.locator('#count').isVisible(), texts.length > 0);
  if (texts.length) assert.equal(await page.locator('#count').textContent(), String(texts.length));
}

test('a page knows what is unread when it opens, and what changes from then on', options, async (t) => {
  const { url } = await serve(t, 'notifications', { args: [path.join(directory(t), 'notifications.db')] });
  const [ada, bob] = [await open(t, url), await open(t, url, { viewport: { width: 390, height: 844 } })];
  await signIn(bob, 'bob');
  await send(bob, 'ada', '<b>first</b>');
  await signIn(ada, 'ada');
  await unread(ada, ['<b>first</b>']);
  await send(bob, 'ada', 'second');
  await unread(ada, ['second', '<b>first</b>']);
  await ada.reload();
  await shown(ada, 'live');
  await unread(ada, ['second', '<b>first</b>']);
  assert.equal(await bob.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, 'nothing is cut off');
  await picture(ada, 'notifications-desktop-light');
  await ada.getByRole('button', { name: 'Mark all as read' }).click();
  await unread(ada, []);
  await ada.reload();
  await shown(ada, 'live');
  await unread(ada, []);
});

test('a sign-out ends every page of the user, at every process', options, async (t) => {
  const database = path.join(directory(t), 'notifications.db');
  const [here, there] = [await serve(t, 'notifications', { args: [database] }), await serve(t, 'notifications', { args: [database] })];
  const [one, other] = [await open(t, here.url), await open(t, there.url)];
  await signIn(one, 'ada');
  await signIn(other, 'ada');
  await one.getByRole('button', { name: 'Sign out everywhere' }).click();
  for (const page of [one, other]) {
    await shown(page, 'signed-out');
    assert.match(await page.locator('#why').textContent(), /signed out|sign in/);
  }
  await signIn(other, 'ada');
});

test('a page whose token expires asks to sign in', options, async (t) => {
  const { url } = await serve(t, 'notifications', { args: [path.join(directory(t), 'notifications.db'), '2'] });
  const page = await open(t, url);
  // As a page that was suspended: it signs in, but does not renew its token.
  await page.route('**/token', (route) => (route.request().postData() ? route.continue() : route.abort()));
  await signIn(page, 'ada');
  await shown(page, 'signed-out');
});

test('a page that stays open renews its token', options, async (t) => {
  const { url } = await serve(t, 'notifications', { args: [path.join(directory(t), 'notifications.db'), '4'] });
  const page = await open(t, url);
  await signIn(page, 'ada');
  for (const _ of [1, 2]) await page.waitForResponse((response) => response.url().endsWith('/token') && response.ok());
  await shown(page, 'live');
  await send(page, 'ada', 'still here');
  await unread(page, ['still here']);
});

test('a dashboard has all values when it opens, and its charts move', options, async (t) => {
  const { url } = await serve(t, 'dashboard');
  const page = await open(t, url);
  await page.locator('#state.open').waitFor();
  const settled = () => values.every((value) => value > 0 || value === 0) && values.some((value) => value !== values[0]);
  await page.waitForFunction(settled);
  const before = await page.evaluate(() => [...values]);
  const moved = (before) => values.filter((value, gauge) => value !== before[gauge]).length > 400;
  await page.waitForFunction(moved, before);
  await page.waitForFunction(() => charts.every(({ history }) => history.length > 5 && history.every((value) => value > 0)));
  const chosen = await page.evaluate(() => charts[0].gauge);
  await page.locator('#map').click({ position: { x: 5, y: 40 } });
  await page.waitForFunction((chosen) => charts[0].gauge !== chosen, chosen);
  await picture(page, 'dashboard-desktop-light');
});
