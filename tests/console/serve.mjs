// Fills the services of `script/test-console --serve` with something to look at, and keeps it so.
import { seed } from './harness.mjs';

await seed();
console.log('There are some queues now. Stop with Ctrl-C.');
