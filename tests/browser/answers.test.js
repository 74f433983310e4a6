// The answers example: an answer on several pages, over reloads, a stop, and the end of its process.

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { directory, open, options, picture, serve } from './harness.js';

const start = (test, file) => serve(test, 'answers', { args: [file] });
const file = (test) => path.join(directory(test), 'answers.db');
const text = (page) => page.locator('#text').textContent();
const state = (page, wanted) => page.locator(`#state[data-state="${wanted}"]`).waitFor();
const listed = (page, wanted) => page.locator(`nav .state[data-state="${wanted}"]`).first().waitFor();
/** Waits until the page shows at least so many characters of an answer. */
const shows = (page, count) => page.waitForFunction((count) => document.getElementById('text').textContent.length >= count, count);

/** Asks; the answer repeats the question, so a long one takes long. */
async function ask(page, question) {
  await page.getByRole('textbox', { name: 'Question' }).fill(question);
  await page.getByRole('button', { name: 'Ask', exact: true }).click();
  await state(page, 'running');
}

const LONG = '<b>so</b> '.repeat(400);

test('an answer appears word by word, and a page that is reloaded or opened later shows all of it', options, async (t) => {
  const { url } = await start(t, file(t));
  const page = await open(t, url);
  await ask(page, 'Why?');
  await shows(page, 30);
  const early = await text(page);
  assert.ok(early.startsWith('You asked: “Why?”\n\nI '), early);
  await shows(page, early.length + 1);
  await page.reload();
  await shows(page, early.length + 20);
  const other = await open(t, page.url());
  for (const shown of [page, other]) {
    await state(shown, 'finished');
    await listed(shown, 'finished');
    assert.equal(await shown.locator('#question').textContent(), 'Why?');
  }
  const whole = await text(page);
  assert.ok(whole.endsWith('Nothing that I said before is lost.') && whole.split('You asked').length === 2, whole);
  assert.equal(await text(other), whole);
  await page.reload();
  await state(page, 'finished');
  await shows(page, whole.length);
  assert.equal(await text(page), whole);
  await picture(page, 'answers-desktop-light');
});

test('a stop is seen on every page, and what users write stays text', options, async (t) => {
  const { url } = await start(t, file(t));
  const page = await open(t, url);
  await ask(page, LONG);
  await shows(page, 40);
  const other = await open(t, url, { viewport: { width: 390, height: 844 } });
  await other.locator('nav a').first().click();
  await shows(other, 40);
  await other.getByRole('button', { name: 'Stop' }).click();
  for (const shown of [page, other]) {
    await state(shown, 'stopped');
    await listed(shown, 'stopped');
    assert.equal(await shown.getByRole('button', { name: 'Stop' }).isVisible(), false);
    assert.equal(await shown.locator('#answer b, nav b').count(), 0);
    assert.equal(await shown.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, 'nothing is cut off');
  }
  assert.equal(await text(page), await text(other));
  await picture(other, 'answers-phone-light');
});

test('an answer whose process is killed is abandoned on the pages of the other', options, async (t) => {
  const database = file(t);
  const [here, there] = [await start(t, database), await start(t, database)];
  const page = await open(t, here.url);
  await ask(page, LONG);
  await shows(page, 40);
  const other = await open(t, there.url + new URL(page.url()).hash);
  await shows(other, 40);
  await here.kill();
  await page.locator('#connection.lost').waitFor();
  await other.locator('#state[data-state="abandoned"]').waitFor({ timeout: 30_000 });
  await listed(other, 'abandoned');
  const said = await text(other);
  await other.reload();
  await state(other, 'abandoned');
  await shows(other, said.length);
  assert.equal(await text(other), said);
  await picture(other, 'answers-abandoned-desktop-light');
});
