// What somebody sees who looks while the database or RabbitMQ goes away.
import { once } from 'node:events';
import { rename } from 'node:fs/promises';
import { connect as dial, createServer } from 'node:net';

import { assert, claim, connect, eventually } from './harness.mjs';

/** What the service calls RabbitMQ by, which can be cut. */
export async function line(port, to) {
  const { hostname, port: target } = new URL(to);
  const open = new Set();
  const server = createServer(socket => {
    const other = dial(Number(target), hostname);
    for (const [one, two] of [[socket, other], [other, socket]]) {
      open.add(one);
      one.on('error', () => two.destroy()).on('close', () => { open.delete(one); two.destroy(); });
      one.pipe(two);
    }
  });
  const up = async () => { server.listen(port, '127.0.0.1'); await once(server, 'listening'); };
  const cut = async () => {
    const closed = once(server, 'close');
    server.close();
    open.forEach(socket => socket.destroy());
    await closed;
  };
  await up();
  return { up, cut };
}

const queue = name => `/console/queue?name=${encodeURIComponent(`queue/frail-x/${name}`)}`;
const exchange = name => `/console/exchange?name=${encodeURIComponent(`exchange/frail-x/${name}`)}`;

/** Each page that is loaded now shows the last known state under this banner; of what was never known, it says so. */
async function lastKnown(visit, banner) {
  const { page } = visit;
  for (const [path, ...texts] of [
    ['/console/namespaces/frail-x', /claimed by programs, and rotating/, /owner@example\.com/, /steady/],
    [queue('seen'), /exchange\/frail-x\/events/, /a\.key/],
    [queue('steady'), /They are not known now/, /That is not known now/],
    [exchange('events'), /queue\/frail-x\/seen/, /a\.key/],
    [exchange('other'), /That is not known now/],
    ['/console/exchanges', /events/],
  ]) {
    const answer = await visit.go(path);
    assert.equal(answer.status(), 200, path);
    assert.match(await page.textContent('#banner'), banner, path);
    assert.match(await page.textContent('#as-of'), /^([1-9]\d* s|\d+ min) ago$/, path);
    await page.screenshot({ path: `screenshots/last-known-${path.replace(/\W+/g, '-')}.png`, fullPage: true });
    const shown = await page.textContent('main');
    for (const text of texts) assert.match(shown, text, path);
  }
  for (const path of [queue('nowhere'), exchange('nowhere')]) {
    const answer = await visit.context.request.get(`${visit.url}${path}`);
    assert.equal(answer.status(), 503, path);
    const text = await answer.text();
    assert.match(text, /Nothing of this was known here before/, path);
    assert.match(text, /href="\/console\/status"/, path);
  }
}

export async function outages(check, visitor) {
  const { PULSE_FRAIL_URL: url, PULSE_FRAIL_DATA: data, PULSE_FRAIL_PORT: port, PULSE_TEST_RABBITMQ_API: api } = process.env;
  const broker = await line(Number(port), api);
  let visit;

  await check('a RabbitMQ that goes away is a banner over the last known state, and comes back', async () => {
    const seen = { rootUrl: url };
    const { channel, connection } = await eventually(async () => connect(await claim('frail-x', 'owner@example.com', seen)), 30_000);
    await channel.assertQueue('queue/frail-x/steady');
    await channel.assertQueue('queue/frail-x/seen');
    await channel.assertExchange('exchange/frail-x/events', 'topic');
    await channel.assertExchange('exchange/frail-x/other', 'topic');
    await channel.bindQueue('queue/frail-x/seen', 'exchange/frail-x/events', 'a.key');
    visit = await visitor('frail');
    const { page } = visit;
    for (const path of [queue('seen'), exchange('events'), '/console/exchanges', '/console/queues']) await visit.go(path);
    await page.mouse.move(5, 5);
    const row = 'tr[data-key="queue/frail-x/steady"]';
    await page.waitForSelector(row);
    assert.ok(!await page.isVisible('#banner'));
    await broker.cut();
    await page.waitForSelector('#banner:text("RabbitMQ does not answer. What is shown is the last that is known.")', { timeout: 40_000 });
    assert.ok(await page.isVisible(row));
    await page.waitForFunction(() => Number(/^(\d+) s ago$/.exec(document.querySelector('#as-of').textContent)?.[1] ?? 0) > 2);
    // The same to who comes now.
    await page.reload();
    assert.match(await page.textContent('#banner'), /RabbitMQ does not answer/);
    assert.ok(await page.isVisible(row));
    await lastKnown(visit, /RabbitMQ does not answer/);
    await visit.go('/console/queues');
    await page.mouse.move(5, 5);
    await broker.up();
    await page.waitForSelector('#banner', { state: 'hidden', timeout: 40_000 });
    assert.ok(await page.isVisible(row));
    await connection.close();
  });

  await check('a database that goes away is a banner over the last known state, and comes back', async () => {
    const { page } = visit;
    const row = 'tr[data-key="queue/frail-x/steady"]';
    visit.wrong.length = 0;
    await rename(data, `${data}.away`);
    await page.waitForSelector('#banner:text("The database does not answer. What is shown is the last that is known.")', { timeout: 40_000 });
    assert.ok(await page.isVisible(row));
    for (const path of ['/console/queues', '/console/namespaces', '/console/status']) {
      const answer = await visit.go(path);
      assert.equal(answer.status(), 200, path);
      assert.match(await page.textContent('#banner'), /The database does not answer/, path);
    }
    await lastKnown(visit, /The database does not answer/);
    await visit.go('/console/queues');
    await page.mouse.move(5, 5);
    assert.ok(await page.isVisible(row), 'who was signed in sees what is known');
    // Nothing is done meanwhile, and it says so.
    const headers = { 'sec-fetch-site': 'same-origin' };
    const refused = await visit.context.request.post(`${visit.url}/console/queue/delete`, { form: { name: 'queue/frail-x/steady', typed: 'steady' }, headers });
    assert.equal(refused.status(), 503);
    await rename(`${data}.away`, data);
    await page.waitForSelector('#banner', { state: 'hidden', timeout: 40_000 });
    assert.ok(await page.isVisible(row));
    assert.deepEqual(visit.wrong, []);
    await visit.context.close();
  });
  await broker.cut();
}
