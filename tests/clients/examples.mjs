// Runs the examples of docs/calling.md, as script/test-clients has taken them from the page. One consumes what the others
// publish.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

import { assert, check, logIn, within } from './harness.mjs';

const start = (command, ...args) => spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });

/** Runs a command to its end and gives back what it printed. */
async function run(command, ...args) {
  const child = start(command, ...args);
  let printed = '';
  child.stdout.on('data', text => { printed += text; });
  const status = await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve));
  assert.equal(status, 0, `${command} ended with status ${status}`);
  return printed;
}

const published = /^Published\. Claim again by .*20\d\d-.*Z/m;
const name = file => `docs/calling.md: the example ${file}`;
let consumer;
let received;
process.on('SIGTERM', () => process.exit(1));
process.on('exit', () => consumer?.kill());

await check(name('publish.mjs publishes'), async () => {
  assert.match(await run('node', 'publish.mjs'), published);
});

await check(name('consume.cjs listens'), async () => {
  consumer = start('node', 'consume.cjs');
  received = createInterface(consumer.stdout)[Symbol.asyncIterator]();
  assert.equal((await within(20_000, 'starting to listen', received.next())).value, 'Listening.');
});

for (const [file, greeting, ...command] of [
  ['publish.mjs', 'from JavaScript', 'node', 'publish.mjs'],
  ['publish.py', 'from Python', '../python/bin/python', 'publish.py'],
  ['publish.rs', 'from Rust', '../rust/target/debug/publish'],
]) {
  await check(name(`${file} publishes what consume.cjs receives`), async () => {
    assert.match(await run(...command), published);
    const { value } = await within(20_000, 'a message', received.next());
    assert.equal(value, `Received hello ${greeting}`);
  });
}

await check(name('claim.sh prints the namespace and claims it'), async () => {
  const printed = await run('bash', '-euc', '. ./claim.sh; printf "\\n%s" "$PULSE_CONNECTION_STRING"');
  const [seen, connectionString] = printed.split(/\n(?=amqp)/);
  assert.equal(JSON.parse(seen).namespace, 'taskcluster-example');
  await logIn('taskcluster-example', connectionString);
});

await check(name('exec.sh gives the connection string to a command'), async () => {
  assert.match(await run('bash', '-eu', 'exec.sh'), /^Connecting to 127\.0\.0\.1:\d+\/%2F(\?.*)?\n$/);
});

process.exit();
