// The inspector: messages as they are published, by mouse, by keyboard and without a script.
import { readFile } from 'node:fs/promises';

import { assert, eventually, evil, pause } from './harness.mjs';

const { PULSE_TEST_RABBITMQ_API: api, PULSE_TEST_RABBITMQ_USERNAME: user, PULSE_TEST_RABBITMQ_PASSWORD: password } = process.env;

/** The queues of inspections that RabbitMQ has. */
export async function inspections() {
  const answer = await fetch(`${api}/api/queues?disable_stats=true&columns=name`, {
    headers: { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` },
  });
  return (await answer.json()).map(({ name }) => name).filter(name => name.startsWith('inspector/'));
}

/** Publishes to an exchange, and waits until RabbitMQ has confirmed it. */
export async function publish({ channel }, exchange, key, body, options = {}) {
  channel.publish(exchange, key, Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)), options);
  await channel.waitForConfirms();
}

/** What went wrong in a browser, but for what a form that was sent wrong says. */
const quiet = ({ wrong }) => wrong.filter(text => !text.includes('422 (Unprocessable Entity)'));

/** Begins to look at an exchange on the inspector's page. */
export async function look(visit, exchange, key = '') {
  await visit.go('/console/inspector');
  await visit.page.fill('#exchange-1', exchange);
  await visit.page.fill('#key-1', key);
  await visit.page.click('main button.primary');
}

export async function inspector(check, visitor, owner, others) {
  const news = 'exchange/taskcluster-others/news';

  await check('messages of somebody else\'s exchange are seen as they are published', async () => {
    const { page } = owner;
    await owner.go('/console/queues');
    await page.keyboard.press('g');
    await page.keyboard.press('i');
    await page.waitForURL(/console\/inspector$/);
    await look(owner, 'others/new', 'task.#');
    assert.match(await page.textContent('#wrong'), /begins with "exchange\/"/);
    await page.click(`a:text-is("${news}")`);
    assert.equal(await page.inputValue('#key-1'), 'task.#');
    await page.click('main button.primary');
    await page.waitForURL(/inspector\/watch\?id=/);
    await page.mouse.move(5, 5);
    assert.ok(await page.isVisible('#feed-none'));
    await publish(others, news, 'other.key', 'not this one');
    await publish(others, news, 'task.done', { taskId: 'abc', runs: [1, 2] }, { contentType: 'application/json', headers: { from: 'me' } });
    const first = page.locator('.message').first();
    await first.waitFor();
    assert.equal(await first.locator('.body').textContent(), JSON.stringify({ taskId: 'abc', runs: [1, 2] }, null, 2));
    assert.equal(await first.locator('.key').textContent(), 'task.done');
    assert.match(await first.locator('summary').first().textContent(), /news taskcluster-others/);
    assert.match(await first.locator('.properties').textContent(), /"from": "me"/);
    assert.equal(await page.locator('.message').count(), 1, 'only what fits the routing key');
    assert.ok(!await page.isVisible('#feed-none'));
    assert.deepEqual(quiet(owner), []);
  });

  await check('no message runs a script, whatever is in its body, key, properties and exchange', async () => {
    const { page } = owner;
    const bodies = [evil, JSON.stringify({ [evil]: evil }), '</pre><script>window.hacked=1</script>', Buffer.from([255, 0, 60, 115]).toString('latin1')];
    for (const body of bodies) await publish(others, news, `task.${evil}`, body, { headers: { [evil]: evil }, contentType: evil });
    await eventually(async () => assert.ok(await page.locator('.message').count() >= 5), 20_000);
    assert.ok((await page.locator('.message .body').allTextContents()).includes(evil), 'it is shown as it came');
    await look(owner, `exchange/taskcluster-evil/${evil}`);
    await page.waitForURL(/inspector\/watch\?id=/);
    await pause(1500);
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    assert.deepEqual(quiet(owner), []);
    await page.click('button:text-is("Stop")');
  });

  await check('messages are held back, filtered, copied and downloaded', async () => {
    const visit = await visitor('owner', { permissions: ['clipboard-read', 'clipboard-write'] });
    const { page } = visit;
    await look(visit, news);
    await page.waitForURL(/inspector\/watch\?id=/);
    await page.mouse.move(5, 5);
    await publish(others, news, 'a.one', { n: 1 });
    await page.waitForSelector('.message');
    await page.click('#feed-pause');
    await publish(others, news, 'a.two', { n: 2 });
    await page.waitForSelector('#feed-pause:text("Resume (1 new)")');
    assert.equal(await page.locator('.message').count(), 1);
    await page.click('#feed-pause');
    assert.deepEqual(await page.locator('.message .key').allTextContents(), ['a.two', 'a.one'], 'the newest comes first');
    await page.hover('.message >> nth=1');
    await publish(others, news, 'a.three', 'plain <b>');
    await page.waitForFunction(() => /1 new/.test(document.querySelector('#feed-state').textContent));
    assert.equal(await page.locator('.message').count(), 2, 'what is pointed at stays where it is');
    await page.mouse.move(5, 5);
    await page.waitForFunction(() => document.querySelectorAll('.message').length === 3);
    await page.fill('#feed-filter', 'N": 2');
    assert.deepEqual(await page.locator('.message:visible .key').allTextContents(), ['a.two']);
    await page.click('.message:visible .copy');
    assert.deepEqual(JSON.parse(await page.evaluate(() => navigator.clipboard.readText())), { n: 2 });
    await page.fill('#feed-filter', '');
    const [download] = await Promise.all([page.waitForEvent('download'), page.click('#feed-save')]);
    assert.equal(download.suggestedFilename(), 'messages.json');
    const saved = JSON.parse(await readFile(await download.path(), 'utf8'));
    assert.deepEqual(saved.map(({ exchange, routingKey, body }) => ({ exchange, routingKey, body })), [
      { exchange: news, routingKey: 'a.three', body: 'plain <b>' }, { exchange: news, routingKey: 'a.two', body: { n: 2 } },
      { exchange: news, routingKey: 'a.one', body: { n: 1 } },
    ]);
    assert.ok(saved.every(({ time }) => !Number.isNaN(Date.parse(time))));
    assert.deepEqual(visit.wrong, []);
    await page.click('button:text-is("Stop")');
    await page.waitForURL(/console\/inspector\?/);
    await visit.context.close();
  });

  await check('a publisher is never held up, and what comes too fast is left out', async () => {
    const { page } = owner;
    await look(owner, news);
    await page.waitForURL(/inspector\/watch\?id=/);
    await page.mouse.move(5, 5);
    const began = Date.now();
    for (let n = 0; n < 3000; n++) others.channel.publish(news, `flood.${n}`, Buffer.from(JSON.stringify({ n, filler: 'x'.repeat(900) })), { persistent: true });
    await others.channel.waitForConfirms();
    const took = Date.now() - began;
    assert.ok(took < 15_000, `3,000 messages took ${took} ms`);
    await page.waitForSelector('.left-out');
    await eventually(async () => assert.ok((await page.locator('.message .key').allTextContents()).includes('flood.2999')), 30_000);
    const shown = await page.locator('.message').count();
    assert.ok(shown <= 500, `${shown} messages are on the page`);
    await page.click('button:text-is("Stop")');
  });

  await check('the inspector works without a script, and its queue goes when it is stopped', async () => {
    const visit = await visitor('owner', { javaScriptEnabled: false });
    const { page } = visit;
    const before = (await inspections()).length;
    await look(visit, news, 'noscript.*');
    await eventually(async () => assert.equal((await inspections()).length, before + 1));
    await publish(others, news, 'noscript.a', { n: 1 });
    await page.click('text=Load newer');
    assert.match(await page.textContent('.message .body'), /"n": 1/);
    await page.click('text=Load newer');
    assert.equal(await page.locator('.message').count(), 0);
    await page.click('button:text-is("Stop")');
    assert.equal(await page.inputValue('#key-1'), 'noscript.*', 'it may begin again');
    await eventually(async () => assert.equal((await inspections()).length, before));
    await visit.context.close();
  });
}
