// taskcluster-lib-pulse claims, connects, publishes, consumes, and does it all again at each `reclaimAt`.
import { once } from 'node:events';

import { assert, check, owner, requireOld, rootUrl, within } from './harness.mjs';

const { Client, claimedCredentials, consume } = requireOld('taskcluster-lib-pulse');

const rotations = 3;
const namespace = 'taskcluster-lib-pulse';
const exchange = `exchange/${namespace}/events`;
const name = what => `taskcluster-lib-pulse 2.0.2: ${what}`;

const claims = [];
const troubles = [];
const claim = claimedCredentials({ rootUrl, credentials: owner, namespace, contact: 'somebody@example.com' });
const client = new Client({
  namespace,
  credentials: async () => {
    const at = new Date();
    const claimed = await claim();
    claims.push({ at, ...claimed });
    return claimed;
  },
  monitor: { reportError: error => troubles.push(error) },
  minReconnectionInterval: 100,
  retirementDelay: 1000,
});

let received = () => {};
let consumer;

async function publishAndConsume(number) {
  const arrived = new Promise(resolve => { received = resolve; });
  await client.withChannel(async channel => {
    channel.publish(exchange, 'event.number', Buffer.from(JSON.stringify({ number })));
    await channel.waitForConfirms();
  }, { confirmChannel: true });
  const message = await within(20_000, 'a message', arrived);
  assert.deepEqual([message.payload, message.exchange, message.routingKey], [{ number }, exchange, 'event.number']);
}

await check(name('connects, publishes and consumes with claimed credentials'), async () => {
  await client.withChannel(channel => channel.assertExchange(exchange, 'topic'));
  const bindings = [{ exchange, routingKeyPattern: 'event.#' }];
  consumer = await consume({ client, bindings, queueName: 'events' }, async message => received(message));
  await publishAndConsume(0);
});

for (let number = 1; number <= rotations; number++) {
  await check(name(`messages flow after rotation ${number}`), async () => {
    await within(30_000, 'the next connection', once(client, 'connected'));
    await publishAndConsume(number);
  });
}

await check(name('claims once a rotation, at reclaimAt, and never because of a failure'), async () => {
  assert.equal(claims.length, rotations + 1);
  for (const [index, { at }] of claims.slice(1).entries()) {
    const late = at - claims[index].recycleAt;
    assert.ok(late >= -50 && late < 5000, `claim ${index + 1} came ${late} ms after reclaimAt`);
  }
  assert.deepEqual(troubles, []);
});

await check(name('each rotation changes the password and the user in turn'), async () => {
  const users = claims.map(({ connectionString }) => new URL(connectionString).username);
  assert.deepEqual([...new Set(users)].sort(), [`${namespace}-1`, `${namespace}-2`]);
  for (const [index, user] of users.slice(1).entries()) assert.notEqual(user, users[index]);
  const passwords = claims.map(({ connectionString }) => new URL(connectionString).password);
  assert.equal(new Set(passwords).size, claims.length);
});

if (consumer) await consumer.stop();
await client.stop();
