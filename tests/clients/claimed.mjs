// Taskcluster's pulse library as it is today, with the function of docs/taskcluster.md for its credentials: through rotations, and
// while the service can't be reached.
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { connect, createServer } from 'node:net';

import { assert, check, owner, rootUrl, within } from './harness.mjs';
import { claimedCredentials } from './examples/claimed-credentials.mjs';

const { Client, consume } = createRequire(import.meta.url)('taskcluster-lib-pulse-11');

const namespace = 'taskcluster-lib-pulse-11';
const exchange = `exchange/${namespace}/events`;
const name = what => `taskcluster-lib-pulse 11.1.0: ${what}`;

// The service, behind a line that can be cut.
const { hostname, port } = new URL(rootUrl);
const sockets = new Set();
let isCut = false;
const line = createServer(near => {
  if (isCut) return near.destroy();
  const far = connect(port, hostname);
  for (const socket of [near, far]) {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => { near.destroy(); far.destroy(); sockets.delete(socket); });
  }
  near.pipe(far).pipe(near);
});
await new Promise(resolve => { line.listen(0, '127.0.0.1', resolve); });

const strings = [];
const troubles = [];
const claim = claimedCredentials({
  rootUrl: `http://127.0.0.1:${line.address().port}`, credentials: owner, namespace, contact: 'ops@example.com', jitter: 50,
});
const client = new Client({
  namespace,
  credentials: async () => {
    const claimed = await claim();
    strings.push(claimed.connectionString);
    return claimed;
  },
  monitor: { reportError: error => troubles.push(error) },
  recycleInterval: 3000,
  minReconnectionInterval: 100,
  retirementDelay: 1000,
});

let received = () => {};
let consumer;

async function publishAndConsume(text) {
  const arrived = new Promise(resolve => { received = resolve; });
  await client.withChannel(async channel => {
    channel.publish(exchange, 'event', Buffer.from(JSON.stringify({ text })));
    await channel.waitForConfirms();
  }, { confirmChannel: true });
  const { payload } = await within(20_000, 'a message', arrived);
  assert.equal(payload.text, text);
}

const users = () => new Set(strings.map(string => new URL(string).username));

await check(name('connects, publishes and consumes with what the function claims'), async () => {
  await client.withChannel(channel => channel.assertExchange(exchange, 'topic'));
  const bindings = [{ exchange, routingKeyPattern: '#' }];
  consumer = await consume({ client, bindings, queueName: 'events' }, async message => received(message));
  await publishAndConsume('the first');
});

await check(name('goes on through rotations'), async () => {
  while (new Set(strings).size < 3) await within(30_000, 'the next connection', once(client, 'connected'));
  assert.deepEqual([...users()].sort(), [`${namespace}-1`, `${namespace}-2`]);
  await publishAndConsume('after two rotations');
});

await check(name('connects with the last string while the service can not be reached'), async () => {
  const different = new Set(strings).size;
  while (new Set(strings).size === different) await within(30_000, 'the next connection', once(client, 'connected'));
  const { length } = strings;
  isCut = true;
  sockets.forEach(socket => socket.destroy());
  await within(30_000, 'the next connection', once(client, 'connected'));
  await publishAndConsume('meanwhile');
  assert.ok(strings.length > length, 'the function was not asked');
  assert.equal(strings.at(-1), strings[length - 1]);
  isCut = false;
  while (strings.at(-1) === strings[length - 1]) await within(30_000, 'the next connection', once(client, 'connected'));
  await publishAndConsume('when it is back');
  assert.deepEqual(troubles, []);
});

if (consumer) await consumer.stop();
await client.stop();
line.close();
sockets.forEach(socket => socket.destroy());
