// Two nodes of the chat that share an engine, with a page on each.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { database, shows, start, state, write, written } from './chat.js';
import { engines } from './engines.js';
import { open, picture, proxy, say } from './harness.js';

for (const engine of engines) {
  test(`two nodes on ${engine.name} are one chat, also when one is killed`, engine.options, async (t) => {
    const store = await engine.start(t);
    const file = database(t);
    const node = (port) => start(t, file, { port, store });
    const [one, two] = [await node(), await node()];
    const balancer = await proxy(t, two.url);
    const [ada, bob] = [await open(t, one.url), await open(t, `${balancer.url}/?transport=poll`)];
    await Promise.all([state(ada, 'live-sse'), state(bob, 'live-poll')]);

    await write(ada, 'Ada', 'first, on one node');
    await shows(bob, ['first, on one node']);
    await write(bob, 'Bob', 'second, on the other');
    const earlier = ['first, on one node', 'second, on the other'];
    await shows(ada, earlier);

    // Both nodes at once: whatever the order is, it is the same on both pages.
    const many = Array.from({ length: 20 }, (_, n) => `message ${String(n).padStart(2, '0')}`);
    await Promise.all(many.map((content, n) => say([one, two][n % 2].url, 'Cyd', content)));
    for (const page of [ada, bob]) await page.locator('#log li[data-id]').nth(21).waitFor();
    const all = await written(ada);
    assert.deepEqual(all.toSorted(), [...earlier, ...many].toSorted());
    await shows(bob, all);

    // Bob's node is killed, and the load balancer sends him to Ada's.
    await two.kill();
    await state(bob, 'reconnecting');
    await write(ada, 'Ada', 'while Bob was away');
    all.push('while Bob was away');
    await shows(ada, all);
    balancer.target = one.url;
    await state(bob, 'live-poll');
    await shows(bob, all);

    // Bob's old node comes back on its port: Cyd reads there, then Ada's node is killed and restarted.
    const again = await node(two.port);
    const cyd = await open(t, again.url);
    await shows(cyd, all);
    await one.kill();
    await state(ada, 'reconnecting');
    await say(again.url, 'Cyd', 'while Ada was away');
    all.push('while Ada was away');
    await node(one.port);
    await state(ada, 'live-sse');
    await state(bob, 'live-poll');
    await write(bob, 'Bob', 'all together');
    all.push('all together');
    for (const page of [ada, bob, cyd]) await shows(page, all);
    for (const page of [ada, bob, cyd]) assert.equal(await page.locator('#log li:is(.pending, .failed)').count(), 0);
    await picture(ada, `nodes-${engine.name}-ada`);
    await picture(bob, `nodes-${engine.name}-bob`);
  });
}
