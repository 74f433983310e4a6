// Shared by the tests of the chat: starting it, and using its page.

import assert from 'node:assert/strict';
import path from 'node:path';
import { directory, serve } from './harness.js';

/** Starts a chat on a free port, or on `port`, with its events next to the database, or in `store`. */
export function start(test, database, { port, store } = {}) {
  return serve(test, 'chat', { port, args: ['--database', database, ...(store ? ['--store', store] : [])] });
}

export const database = (test) => path.join(directory(test), 'chat.db');
/** Waits until the page is in this state. */
export const state = (page, wanted) => page.locator(`#state[data-state="${wanted}"]`).waitFor();

/** The messages that the page shows, from top to bottom. */
export const written = (page) => page.locator('#log li[data-id] .content').allTextContents();

/** Waits until the page shows exactly these messages. */
export async function shows(page, wanted) {
  const settled = ([count, last]) => {
    const all = [...document.querySelectorAll('#log li[data-id] .content')];
    return all.length >= count && all.at(-1).textContent === last;
  };
  await page.waitForFunction(settled, [wanted.length, wanted.at(-1)]).catch(() => {}); // the diff below says more
  assert.deepEqual(await written(page), wanted);
}

export async function write(page, user, content) {
  await page.getByLabel('Your name').fill(user);
  await page.getByRole('textbox', { name: 'Message' }).fill(content);
  await page.getByRole('textbox', { name: 'Message' }).press('Enter');
}
