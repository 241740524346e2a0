// Exemptions that owners ask for, and what only administrators do.
import { assert, atBroker, eventually } from './harness.mjs';

const kept = `/console/queue?name=${encodeURIComponent('queue/taskcluster-jobs/kept')}`;

/** An owner asks that two queues may grow, so that there is something to decide. */
export async function asks(check, owner) {
  await check('an owner asks for an exemption, and is told what is wrong with the form', async () => {
    const { page } = owner;
    for (const name of ['kept', 'plain']) {
      await owner.go(kept.replace('kept', name));
      await page.fill('#up-to', 'many');
      await page.fill('#reason', 'a backlog after <b>the move</b>');
      await page.click('text=Ask administrators');
      assert.match(await page.textContent('#exempt-wrong'), /Give a whole number/);
      assert.match(await page.getAttribute('#live', 'data-from'), /^\/console\/queue\?name=/, 'the page goes on renewing itself');
      await page.fill('#up-to', '5,000');
      await page.click('text=Ask administrators');
      assert.match(await page.textContent('main'), /administrators are asked that it may grow up to 5,000 messages/);
      await page.click('text=To the queue');
      assert.match(await page.textContent('main'), /asked for.*by person owner@example\.com.*a backlog after <b>the move<\/b>/s);
    }
  });
}

export async function administration(check, visitor, owner) {
  const boss = await visitor('boss');
  const { page } = boss;

  await check('an administrator grants one request and refuses the other', async () => {
    await boss.go('/console/administration');
    await page.click('text=requests for exemptions');
    assert.equal(await page.locator('text=Grant…').count(), 2);
    await page.click('tr:has-text("kept") >> text=Grant…');
    assert.match(await page.textContent('main'), /may grow up to 5,000 messages: a backlog/);
    await page.click('text=Grant it');
    assert.match(await page.textContent('main'), /may grow up to 5,000 messages/);
    await page.click('text=To the exemptions');
    await page.click('text=Refuse…');
    await page.fill('#reason', 'read it faster');
    await page.click('main button.primary');
    await page.click('text=To the exemptions');
    assert.match(await page.textContent('main'), /Nothing waits for a decision/);
    await owner.go(kept);
    assert.match(await owner.page.textContent('main'), /up to 5,000 messages, by person boss@example\.com/);
    await page.click('text=End it');
    assert.match(await page.textContent('main'), /looked after like any other again/);
  });

  await check('a person is signed out, kept from signing in and let in again', async () => {
    const other = await visitor('other');
    await boss.go('/console/administration/people');
    await page.click('tr:has-text("other@example.com") >> text=Disable…');
    await page.fill('#reason', 'left');
    await page.click('text=Keep from signing in >> nth=-1');
    await other.go('/console/namespaces');
    assert.match(other.page.url(), /sign-in/);
    await other.page.click('button.primary');
    assert.match(await other.page.textContent('main'), /may not sign in, since .*left/);
    await page.click('text=To the people');
    await page.click('tr:has-text("other@example.com") >> button:has-text("Let in")');
    await other.go('/console/sign-in');
    await other.page.click('button.primary');
    assert.match(await other.page.textContent('.who'), /other@example\.com/);
    await boss.go('/console/administration/people');
    await page.click('tr:has-text("other@example.com") >> button:has-text("Sign out")');
    await other.go('/console/namespaces');
    assert.match(other.page.url(), /sign-in/);
    await other.context.close();
  });

  await check('a task shows what it would do, and nothing is done', async () => {
    await boss.go('/console/administration/tasks');
    await page.click('tr:has-text("monitor-rabbit") >> text=What would it do?');
    assert.match(await page.textContent('main'), /Nothing was changed/);
    await page.waitForSelector('h1:text("What monitor-rabbit would do now")');
  });

  await check('an account is made, its credentials log in, and an end is put off', async () => {
    await boss.go('/console/administration/things');
    await page.click('text=Make an account…');
    await page.fill('#name', 'taskcluster-people');
    await page.fill('#owners', 'owner@example.com');
    await page.click('main button.primary');
    assert.equal((await page.textContent('#password')).length, 32);
    const { page: own } = owner;
    await owner.go('/console/namespaces/taskcluster-empty');
    await own.click('text=Extend…');
    await own.fill('#until', '2020-01-01');
    await own.click('main button.primary');
    assert.match(await own.textContent('#until-wrong'), /only be put off/);
    const day = new Date(Date.now() + 30 * 86_400_000).toISOString().slice(0, 10);
    await own.fill('#until', day);
    await own.click('main button.primary');
    assert.match(await own.textContent('main'), new RegExp(`it ends at ${day}T23:59:59`));
  });

  await check('what nobody accounts for is deleted once its name is typed', async () => {
    await boss.go('/console/administration/things');
    await page.click('text=Look now');
    await page.click('tr:has-text("taskcluster-lost") >> text=Delete…');
    assert.match(await page.textContent('main'), /1 queue with all its messages/);
    await page.fill('#reason', 'its owner left');
    await page.fill('#typed', 'taskcluster-los');
    await page.click('button.destroy');
    assert.match(await page.textContent('#typed-wrong'), /Nothing was done/);
    await page.fill('#typed', 'taskcluster-lost');
    await page.click('button.destroy');
    assert.match(await page.textContent('main'), /taskcluster-lost.*expire-namespaces remove it/s);
    await page.click('text=Back');
    assert.equal(await page.locator('tr:has-text("taskcluster-lost")').count(), 0);
    assert.equal(await atBroker('GET', 'queue/taskcluster-lost/a'), 200, 'it goes by the next run');
  });

  await check('a namespace is disabled and enabled by an administrator alone', async () => {
    await owner.go('/console/namespaces/taskcluster-empty');
    assert.equal(await owner.page.locator('text=Disable namespace…').count(), 0);
    await boss.go('/console/namespaces/taskcluster-empty');
    await page.click('text=Disable namespace…');
    await page.fill('#typed', 'taskcluster-empty');
    await page.fill('#reason', 'its credentials were in a log');
    await page.click('button.destroy');
    await boss.go('/console/administration/things?unknown=1');
    await page.click('tr:has-text("taskcluster-empty") >> text=Enable…');
    await page.fill('#reason', 'they were replaced');
    await page.click('main button.primary');
    await boss.go('/console/administration/things');
    await eventually(async () => {
      await page.reload();
      assert.equal(await page.locator('text=Enable…').count(), 0);
    });
  });

  await check('what only administrators may is refused to others, by link and by form', async () => {
    const headers = { 'sec-fetch-site': 'same-origin' };
    const { context, url } = owner;
    for (const path of ['', '/people', '/exemptions', '/things?unknown=1', '/tasks', '/tasks/plan?task=monitor-rabbit', '/notices', '/account', '/adopt', '/unknown?name=taskcluster-lost']) {
      assert.equal((await context.request.get(`${url}/console/administration${path}`)).status(), 403, path);
    }
    for (const [path, form] of [
      ['people/disable', { subject: 'development|boss@example.com', reason: 'x' }], ['people/sign-out', { subject: 'development|boss@example.com' }],
      ['tasks/run', { task: 'monitor-rabbit' }], ['account', { name: 'taskcluster-z', owners: 'owner@example.com' }],
      ['requests/grant', { name: 'queue/taskcluster-jobs/kept' }], ['adopt', { name: 'guest', owners: 'owner@example.com' }],
      ['unknown', { name: 'taskcluster-lost', typed: 'taskcluster-lost', reason: 'x' }],
    ]) {
      assert.equal((await context.request.post(`${url}/console/administration/${path}`, { form, headers })).status(), 403, path);
    }
  });
  assert.deepEqual(boss.wrong.filter(text => !text.includes('Failed to load resource')), []);
  await boss.context.close();
}
