// What the checks of the Node.js clients share: named checks, and a login with the AMQP client of each time.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { setTimeout as pause } from 'node:timers/promises';

import amqplib from 'amqplib';

export { assert };

// Resolves packages as taskcluster-lib-pulse does, which has older ones of its own.
export const requireOld = createRequire(createRequire(import.meta.url).resolve('taskcluster-lib-pulse'));

export const rootUrl = process.env.TASKCLUSTER_ROOT_URL;
export const owner = {
  clientId: process.env.TASKCLUSTER_CLIENT_ID,
  accessToken: process.env.TASKCLUSTER_ACCESS_TOKEN,
};

const longest = 60_000;

/** Rejects after so many milliseconds, so that nothing can hang. */
export async function within(milliseconds, what, promise) {
  const over = new AbortController();
  const late = pause(milliseconds, undefined, { signal: over.signal })
    .then(() => { throw new Error(`${what} took longer than ${milliseconds} ms`); });
  try {
    return await Promise.race([promise, late]);
  } finally {
    over.abort();
    late.catch(() => {});
  }
}

/** Runs one check and says how it went, in one line. */
export async function check(name, run) {
  try {
    await within(longest, 'it', run());
    console.log(`ok ${name}`);
  } catch (error) {
    process.exitCode = 1;
    console.log(`FAILED ${name}: ${String(error.message).replace(/\s*\n\s*/g, ' / ')}`);
  }
}

/** Logs in with the AMQP clients of 2018 and of today, and uses what the namespace is allowed to use. */
export async function logIn(namespace, connectionString) {
  for (const amqp of [requireOld('amqplib'), amqplib]) {
    const connection = await amqp.connect(connectionString);
    try {
      const channel = await connection.createChannel();
      await channel.assertExchange(`exchange/${namespace}/greetings`, 'topic');
      const { queue } = await channel.assertQueue(`queue/${namespace}/greetings`);
      await channel.bindQueue(queue, `exchange/${namespace}/greetings`, '#');
    } finally {
      await connection.close();
    }
  }
}

/** Declares queues. */
export async function declare(connectionString, queues) {
  const connection = await amqplib.connect(connectionString);
  try {
    const channel = await connection.createChannel();
    for (const queue of queues) await channel.assertQueue(queue);
  } finally {
    await connection.close();
  }
}

/** What `look` gives once it passes; lists may be some seconds old. */
export async function eventually(look) {
  for (const until = Date.now() + 20_000; ;) {
    try {
      return await look();
    } catch (error) {
      if (Date.now() > until) throw error;
    }
    await pause(500);
  }
}

/** Passes when the call is refused like this. */
export async function refused(call, { statusCode, code, message }) {
  const error = await call.then(() => { throw new Error('it was not refused'); }, error => error);
  assert.equal(error.statusCode, statusCode, `${error.message}`);
  assert.equal(error.code, code);
  assert.match(error.message, message);
  return error;
}
