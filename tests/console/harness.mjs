// What the checks of the console share: named checks, people with browsers, and something to look at.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';

import amqplib from 'amqplib';

export { assert, pause };

const run = promisify(execFile);
const longest = 60_000;

/** Where each person finds the service. */
export const people = {
  owner: process.env.PULSE_OWNER_URL,
  other: process.env.PULSE_OTHER_URL,
  boss: process.env.PULSE_BOSS_URL,
  frail: process.env.PULSE_FRAIL_URL,
};

/** The Chromium of the system. */
export const chromium = ['/usr/lib/chromium/chromium-headless-shell', '/usr/bin/chromium', '/usr/bin/google-chrome']
  .find(path => existsSync(path));

/** Runs one check and says how it went, in one line. */
export async function check(name, work, milliseconds = longest) {
  const over = new AbortController();
  const late = pause(milliseconds, undefined, { signal: over.signal })
    .then(() => { throw new Error(`it took longer than ${milliseconds} ms`); });
  try {
    await Promise.race([work(), late]);
    console.log(`ok ${name}`);
  } catch (error) {
    process.exitCode = 1;
    console.log(`FAILED ${name}: ${String(error.stack).replace(/\s*\n\s*/g, ' / ').slice(0, 1500)}`);
  } finally {
    over.abort();
    late.catch(() => {});
  }
}

/** What `look` gives once it passes. */
export async function eventually(look, milliseconds = 20_000) {
  for (const until = Date.now() + milliseconds; ;) {
    try {
      return await look();
    } catch (error) {
      if (Date.now() > until) throw error;
    }
    await pause(200);
  }
}

/** The connection string of a namespace, claimed as a program does; of another deployment where one is named. */
export async function claim(namespace, contact, { rootUrl = process.env.TASKCLUSTER_ROOT_URL } = {}) {
  const env = { ...process.env, TASKCLUSTER_ROOT_URL: rootUrl };
  const { stdout } = await run(process.env.PULSE_PROGRAM, ['claim', namespace, '--expires', '2 days', '--contact', contact], { env });
  return stdout.trim();
}

/** A program that works in a namespace. */
export async function connect(connectionString) {
  const connection = await amqplib.connect(connectionString);
  connection.on('error', () => {});
  const channel = await connection.createConfirmChannel();
  channel.on('error', error => console.error(`an AMQP channel was closed: ${error.message}`));
  return { connection, channel };
}

/** Publishes so many messages to a queue. */
export async function fill(channel, queue, messages) {
  const exchange = `exchange/${queue.split('/')[1]}/direct`;
  await channel.bindQueue(queue, exchange, queue);
  for (let n = 0; n < messages; n++) channel.publish(exchange, queue, Buffer.from(`message ${n}`));
  await channel.waitForConfirms();
  await channel.unbindQueue(queue, exchange, queue);
}

/** A queue at RabbitMQ, as its administrator makes, looks at (the status is given) and deletes one. */
export async function atBroker(method, queue) {
  const { PULSE_TEST_RABBITMQ_API: api, PULSE_TEST_RABBITMQ_USERNAME: user, PULSE_TEST_RABBITMQ_PASSWORD: password } = process.env;
  const headers = { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`, 'content-type': 'application/json' };
  const body = method === 'PUT' ? '{"durable":true}' : undefined;
  return (await fetch(`${api}/api/queues/%2F/${encodeURIComponent(queue)}`, { method, headers, body })).status;
}

/** What a tenant would choose to run a script in somebody else's browser. */
export const evil = `<img src=x onerror="window.hacked=1">"'><script>window.hacked=1</script>{{7*7}}`;

/** Queues of one person, of another one, and of nobody, in all sorts of states. Gives what ends
 * that, and the program of somebody else. */
export async function seed() {
  const open = [];
  const [a, b, , c] = await Promise.all([
    claim('taskcluster-jobs', 'owner@example.com'),
    claim('taskcluster-evil', 'owner@example.com'),
    claim('taskcluster-empty', 'owner@example.com'),
    claim('taskcluster-others', 'somebody@example.com'),
  ]);
  const jobs = await connect(a);
  const { channel } = jobs;
  await channel.assertExchange('exchange/taskcluster-jobs/events', 'topic');
  await channel.assertExchange('exchange/taskcluster-jobs/direct', 'direct', { durable: false });
  for (let n = 1; n <= 12; n++) {
    await channel.assertQueue(`queue/taskcluster-jobs/worker-${String(n).padStart(2, '0')}`);
  }
  for (const name of ['stuck', 'hoarded', 'read', 'kept', 'mouse', 'keys', 'plain']) await channel.assertQueue(`queue/taskcluster-jobs/${name}`);
  await channel.bindQueue('queue/taskcluster-jobs/stuck', 'exchange/taskcluster-jobs/events', 'task.*.failed');
  await fill(channel, 'queue/taskcluster-jobs/stuck', 60);
  await fill(channel, 'queue/taskcluster-jobs/hoarded', 30);
  for (const name of ['mouse', 'keys', 'plain']) await fill(channel, `queue/taskcluster-jobs/${name}`, 3);
  const reader = await connect(a);
  await reader.channel.consume('queue/taskcluster-jobs/hoarded', () => {});
  await reader.channel.prefetch(10);
  await reader.channel.consume('queue/taskcluster-jobs/read', message => reader.channel.ack(message));
  const bad = await connect(b);
  await bad.channel.assertExchange(`exchange/taskcluster-evil/${evil}`, 'topic');
  await bad.channel.assertExchange('exchange/taskcluster-evil/direct', 'direct');
  await bad.channel.assertQueue(`queue/taskcluster-evil/${evil}`);
  await bad.channel.bindQueue(`queue/taskcluster-evil/${evil}`, `exchange/taskcluster-evil/${evil}`, evil);
  await fill(bad.channel, `queue/taskcluster-evil/${evil}`, 2);
  // Of a namespace that no record knows.
  await atBroker('PUT', 'queue/taskcluster-lost/a');
  const others = await connect(c);
  await others.channel.assertExchange('exchange/taskcluster-others/news', 'topic');
  open.push(jobs, reader, bad, others);
  // Grows as long as it is looked at.
  let working = true;
  const growing = (async () => {
    await channel.assertQueue('queue/taskcluster-jobs/growing');
    const own = await connect(a);
    open.push(own);
    while (working) {
      await fill(own.channel, 'queue/taskcluster-jobs/growing', 1).catch(() => { working = false; });
      await pause(400);
    }
  })();
  const stop = async () => {
    working = false;
    await growing;
    await Promise.all(open.map(({ connection }) => connection.close().catch(() => {})));
  };
  return { stop, others };
}
