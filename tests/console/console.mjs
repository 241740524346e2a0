// Looks at the console as people do: every page in light and dark, wide and narrow; by mouse, by keyboard alone, without a script;
// and as somebody who has no right to it.
import { readFileSync } from 'node:fs';
import { mkdir, rm, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';

import { chromium as browserOf } from 'playwright-core';

import { administration, asks } from './administration.mjs';
import { inspector, look, publish } from './inspector.mjs';
import { outages } from './outages.mjs';
import { honest, hostile, taskcluster } from './providers.mjs';
import { assert, check, chromium, eventually, evil, fill, claim, connect, people, seed } from './harness.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const shots = 'screenshots';
const pictures = 'pictures';
await rm(shots, { recursive: true, force: true });
await mkdir(shots, { recursive: true });
await mkdir(pictures, { recursive: true });

const browser = await browserOf.launch({ executablePath: chromium, args: ['--no-sandbox'] });
const { stop, others } = await seed();

/** A browser of a person, signed in unless it is nobody's; what goes wrong in it is noted. */
async function visitor(person, options = {}) {
  const { signIn = true, ...rest } = options;
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...rest });
  const page = await context.newPage();
  const wrong = [];
  page.on('console', message => { if (['error', 'warning'].includes(message.type())) wrong.push(message.text()); });
  page.on('pageerror', error => wrong.push(String(error)));
  page.setDefaultTimeout(15_000);
  await page.addInitScript(() => addEventListener('securitypolicyviolation', event => {
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
  })).catch(() => {});
  const visit = { page, context, wrong, url: people[person], go: path => page.goto(people[person] + path) };
  if (signIn) {
    await visit.go('/console/sign-in');
    await page.click('button.primary');
  }
  return visit;
}

const queue = name => `/console/queue?name=${encodeURIComponent(`queue/taskcluster-jobs/${name}`)}`;
const evilQueue = `/console/queue?name=${encodeURIComponent(`queue/taskcluster-evil/${evil}`)}`;

// What is looked at: by whom, where, and under which name the screenshot is kept.
const pages = [
  ['nobody', '/console/status', 'status'],
  ['nobody', '/console/sign-in', 'sign-in'],
  ['nobody', '/console/nowhere', 'missing'],
  ['owner', '/console/namespaces', 'namespaces'],
  ['owner', '/console/namespaces/taskcluster-jobs', 'namespace'],
  ['owner', '/console/namespaces/taskcluster-empty', 'namespace-empty'],
  ['owner', '/console/namespaces/taskcluster-evil', 'namespace-evil'],
  ['owner', '/console/namespaces/taskcluster-jobs/owners', 'owners'],
  ['owner', '/console/namespaces/taskcluster-jobs/release', 'release'],
  ['owner', '/console/queues', 'queues'],
  ['owner', '/console/queues?state=trouble&min=x', 'queues-wrong'],
  ['owner', queue('stuck'), 'queue'],
  ['owner', queue('hoarded'), 'queue-hoarded'],
  ['owner', queue('growing'), 'queue-growing'],
  ['owner', evilQueue, 'queue-evil'],
  ['owner', queue('stuck').replace('?', '/delete?'), 'queue-delete'],
  ['owner', '/console/exchanges', 'exchanges'],
  ['owner', '/console/me', 'me'],
  ['owner', '/console/inspector', 'inspector'],
  ['owner', '/console/inspector/watch?id=none', 'inspector-ended'],
  ['owner', '/console/namespaces/taskcluster-jobs/extend', 'extend'],
  ['owner', queue('kept'), 'queue-asked'],
  ['other', '/console/namespaces', 'namespaces-none'],
  ['other', queue('stuck'), 'not-yours'],
  ['owner', `/console/exchange?name=${encodeURIComponent('exchange/taskcluster-jobs/direct')}`, 'exchange'],
  ['boss', '/console/audit', 'audit'],
  ['boss', queue('kept'), 'queue-boss'],
  ['boss', '/console/administration', 'administration'],
  ['boss', '/console/administration/exemptions', 'administration-exemptions'],
  ['boss', queue('kept').replace('/queue?', '/administration/requests/grant?'), 'administration-grant'],
  ['boss', '/console/administration/things?unknown=1', 'administration-things'],
  ['boss', '/console/administration/unknown?name=taskcluster-lost', 'administration-unknown'],
  ['boss', '/console/administration/account', 'administration-account'],
  ['boss', '/console/administration/people', 'administration-people'],
  ['boss', '/console/administration/tasks', 'administration-tasks'],
  ['boss', '/console/administration/tasks/plan?task=monitor-rabbit', 'administration-plan'],
  ['boss', '/console/administration/notices', 'administration-notices'],
  ['boss', '/console/namespaces/taskcluster-jobs/disable', 'disable'],
];

async function looksGood(visit, path, name) {
  const { page, wrong } = visit;
  wrong.length = 0;
  const response = await visit.go(path);
  await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run({
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
  }));
  const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map(node => node.html).join(' ').slice(0, 300)}`);
  assert.deepEqual(told, [], path);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${path} is ${wide} px wider than the window`);
  const cut = await page.$$eval('.list, .panel', boxes => boxes.filter(box => box.scrollWidth > box.clientWidth + 1).length);
  assert.equal(cut, 0, `${path} has boxes that are cut off`);
  // A page that is not there says so on the console, too.
  const expected = response.ok() ? [] : wrong.filter(text => text.includes('Failed to load resource'));
  assert.deepEqual(wrong.filter(text => !expected.includes(text)), [], path);
  assert.equal(await page.evaluate(() => window.hacked), undefined, path);
}

// ---- signing in by a provider, while the guard looks at the queues

async function signIns() {
  const oidc = process.env.PULSE_OIDC_URL;
  const closeHonest = await honest(Number(process.env.PULSE_HONEST_PORT), oidc);

  /** Signs in at npm's provider as somebody, in this page. */
  async function throughProvider(page, who) {
    await page.fill('input[name=login]', who);
    await page.fill('input[name=password]', 'x');
    await page.click('button[type=submit]');
    await page.waitForLoadState();
    // Who has consented before is not asked again.
    if (!page.url().startsWith(oidc)) await page.click('button[type=submit]');
  }

  await check('a person signs in by OpenID Connect, in two tabs at once, and is led back to where each was', async () => {
    const context = await browser.newContext();
    const [one, two] = [await context.newPage(), await context.newPage()];
    await one.goto(`${oidc}/console/queues?q=one`);
    await one.click('text=Sign in with localhost');
    await two.goto(`${oidc}/console/queues?q=two`);
    await two.click('text=Sign in with localhost');
    await throughProvider(one, 'owner');
    await one.waitForURL(`${oidc}/console/queues?q=one`);
    if (await two.locator('input[name=login]').count()) await throughProvider(two, 'owner');
    await two.waitForURL(`${oidc}/console/queues?q=two`);
    await one.goto(`${oidc}/console/me`);
    const text = await one.textContent('main');
    assert.match(text, /owner@example\.com/);
    assert.match(text, /group:releng/);
    assert.ok(!text.includes('group:a b'), 'what can be no group is left out');
    await one.goto(`${oidc}/console/namespaces/taskcluster-jobs`);
    assert.match(await one.textContent('h1'), /taskcluster-jobs/);
    await context.close();
  });

  await check('an address that the provider has not verified gives nothing', async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${oidc}/console/me`);
    await page.click('text=Sign in with localhost');
    await throughProvider(page, 'stranger');
    await page.waitForURL(`${oidc}/console/me`);
    assert.match(await page.textContent('main'), /not told by the identity provider/);
    await context.close();
  });
  closeHonest();

  await check('a person signs in by Taskcluster, and may do what the scopes there say', async () => {
    const url = process.env.PULSE_TASKCLUSTER_URL;
    const { given, stop: close } = await taskcluster(Number(process.env.PULSE_TASKCLUSTER_PORT), url);
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${url}/console/namespaces/taskcluster-others`);
    await page.click('text=Sign in with Taskcluster at localhost');
    await page.waitForURL(`${url}/console/namespaces/taskcluster-others`);
    assert.match(await page.textContent('h1'), /taskcluster-others/);
    assert.match(await page.textContent('.who'), /taskcluster\|github\/1234\|somebody/);
    const answer = await context.request.get(`${url}/console/namespaces/taskcluster-jobs`);
    assert.equal(answer.status(), 403);
    given.clientId = 'github/1234|somebody/other-a1B2c3';
    const begun = await fetch(`${url}/console/sign-in/taskcluster`, { redirect: 'manual' });
    const [cookie] = begun.headers.getSetCookie()[0].split(';');
    const state = new URL(begun.headers.get('location')).searchParams.get('state');
    const back = code => fetch(`${url}/console/sign-in/taskcluster/callback?code=${code}&state=${state}`, { headers: { cookie }, redirect: 'manual' });
    assert.equal((await back('a-code')).status, 502, 'credentials of another name');
    assert.equal((await back('another-code')).status, 502);
    await context.close();
    close();
  });

  await check('a provider that lies gets nobody in, and is told of in words', async () => {
    const url = process.env.PULSE_LIED_TO_URL;
    const { state, stop: close } = await hostile(Number(process.env.PULSE_HOSTILE_PORT));
    const now = Math.floor(Date.now() / 1000);
    const attempt = async (lie, change = query => query) => {
      state.lie = lie;
      const begun = await fetch(`${url}/console/sign-in/begin`, { redirect: 'manual' });
      if (begun.status !== 303) return { status: begun.status, text: await begun.text() };
      const asked = new URL(begun.headers.get('location'));
      state.nonce = asked.searchParams.get('nonce');
      assert.equal(asked.searchParams.get('code_challenge_method'), 'S256');
      const [cookie] = begun.headers.getSetCookie()[0].split(';');
      const query = change(new URLSearchParams({ code: 'c', state: asked.searchParams.get('state') }));
      const answer = await fetch(`${url}/console/sign-in/callback?${query}`, { headers: { cookie }, redirect: 'manual' });
      return { status: answer.status, text: await answer.text(), cookies: answer.headers.getSetCookie().join() };
    };
    const good = await attempt({});
    assert.equal(good.status, 303, good.text);
    const refused = {
      'another nonce': { claims: { nonce: 'n' } },
      'no nonce': { without: ['nonce'] },
      'no signature': { header: { alg: 'none' } },
      'the public key as a secret': { header: { alg: 'HS256' } },
      'the signature of another key': { by: 'other' },
      'an unknown key': { header: { kid: 'x' }, by: 'other' },
      'another audience': { claims: { aud: 'other' } },
      'two audiences and no azp': { claims: { aud: ['pulse', 'other'] } },
      'made for another client': { claims: { azp: 'other' } },
      'another issuer': { claims: { iss: 'http://evil.example.com' } },
      'expired': { claims: { exp: now - 120 } },
      'no expiry': { without: ['exp'] },
      'an expiry that is no number': { claims: { exp: 'never' } },
      'made long ago': { claims: { iat: now - 3600 } },
      'made in the future': { claims: { iat: now + 3600 } },
      'no subject': { claims: { sub: '' } },
      'an answer that is none': { answer: 'x' },
      'an error for a code': { answer: { error: 'invalid_grant' }, status: 400 },
    };
    const wrong = [];
    for (const [what, lie] of Object.entries(refused)) {
      const { status, text, cookies } = await attempt(lie);
      if (![403, 502].includes(status) || /pulse-development=\w/.test(cookies) || !text.includes('Sign in')) wrong.push(`${what}: ${status}`);
    }
    for (const [what, change] of Object.entries({
      'another state': query => new URLSearchParams({ ...Object.fromEntries(query), state: `${query.get('state').slice(0, 12)}x` }),
      'no state': () => new URLSearchParams({ code: 'c' }),
      'nothing': () => new URLSearchParams(),
    })) {
      const { status } = await attempt({}, change);
      if (status !== 400) wrong.push(`${what}: ${status}`);
    }
    const denied = await attempt({}, query => { query.delete('code'); query.set('error', 'access_denied'); return query; });
    if (denied.status !== 403 || !denied.text.includes('access_denied')) wrong.push(`denied: ${denied.status}`);
    const foreign = await attempt({}, query => { query.set('iss', 'http://evil.example.com'); return query; });
    if (foreign.status !== 403) wrong.push(`the answer of another issuer: ${foreign.status}`);
    const unverified = await attempt({ claims: { email_verified: false } });
    if (unverified.status !== 303) wrong.push(`an address that is not verified: ${unverified.status}`);
    const hangs = await attempt({ hang: '/token' });
    if (hangs.status !== 502) wrong.push(`a provider that hangs: ${hangs.status}`);
    assert.deepEqual(wrong, []);
    assert.ok(state.keys <= 3, `its keys were fetched ${state.keys} times`);
    close();
  });
}
const signedIn = signIns();

// The guard has to have seen the queues for some seconds, so that there are verdicts and lines.
const owner = await visitor('owner');
await check('what the guard sees of queues shows by itself, without a reload', async () => {
  await owner.go('/console/queues');
  await owner.page.mouse.move(5, 5);
  await owner.page.waitForSelector('tr[data-key="queue/taskcluster-jobs/growing"] .spark', { timeout: 40_000 });
  await owner.page.waitForFunction(() => /^\d+ s ago$/.test(document.querySelector('#as-of').textContent));
  assert.deepEqual(owner.wrong, []);
});

await check('what is the matter with a queue is told in words', async () => {
  await owner.go('/console/queues?q=stuck');
  await owner.page.mouse.move(5, 5);
  await owner.page.waitForSelector('tr[data-key="queue/taskcluster-jobs/stuck"] .pill.bad:text("no consumer")', { timeout: 45_000 });
  await owner.go(queue('stuck'));
  assert.match(await owner.page.textContent('main'), /no consumer since/);
});

await asks(check, owner);

// One inspection for all who look at its page, with something in it.
await look(owner, 'exchange/taskcluster-others/news', '#');
// First, while it lasts.
pages.unshift(['owner', new URL(owner.page.url()).pathname + new URL(owner.page.url()).search, 'inspector-watch']);
await owner.go('/console/status');
let telling = true;
const told = (async () => {
  for (let n = 0; telling; n++) {
    await publish(others, 'exchange/taskcluster-others/news', `task.${n % 3 ? 'completed' : 'failed'}.gecko-t`, {
      status: { taskId: `fN1SbArXTPSVFNUvaO${n}`, provisionerId: 'gecko-t', state: n % 3 ? 'completed' : 'failed', runs: [{ runId: 0 }] }, runId: 0, version: 1,
    }, { contentType: 'application/json' }).catch(() => {});
    await new Promise(done => setTimeout(done, 150));
  }
})();

await Promise.all([['light', 1280], ['dark', 1280], ['light', 360], ['dark', 360]].map(([scheme, width]) =>
  check(`every page is accessible, quiet and within its window: ${scheme}, ${width} px`, async () => {
    const look = { colorScheme: scheme, viewport: { width, height: 800 } };
    const visits = {};
    const found = [];
    for (const [person, path, name] of pages) {
      const who = person === 'nobody' ? 'owner' : person;
      visits[person] ??= await visitor(who, { ...look, signIn: person !== 'nobody' });
      await looksGood(visits[person], path, `${name}-${scheme}-${width}`).catch(error => found.push(error.message));
    }
    await Promise.all(Object.values(visits).map(({ context }) => context.close()));
    assert.equal(found.join('\n'), '');
  }, 480_000)));

await check('there are pictures for the documentation', async () => {
  const sizes = {};
  for (const [person, path, name, ready] of [
    ['owner', '/console/queues', 'queues', 'tr[data-key] .spark'],
    ['owner', queue('growing'), 'queue', '.chart'],
    ['owner', '', 'inspector', '.message'],
    ['boss', '/console/administration', 'administration', '.cards'],
  ]) {
    const visit = await visitor(person, { viewport: { width: 900, height: 520 }, colorScheme: 'light' });
    if (name === 'queues') await visit.page.setViewportSize({ width: 900, height: 400 });
    if (name === 'inspector') await look(visit, 'exchange/taskcluster-others/news');
    else await visit.go(path);
    await visit.page.mouse.move(1, 399);
    await visit.page.waitForSelector(ready);
    if (name === 'queue') await visit.page.evaluate(() => scrollTo(0, document.querySelector('.panel').offsetTop - 12));
    if (name === 'inspector') await visit.page.waitForFunction(() => document.querySelectorAll('.message').length > 2);
    await visit.page.screenshot({ path: `${pictures}/${name}.png` });
    if (name === 'inspector') await visit.page.click('button:text-is("Stop")');
    sizes[name] = (await stat(`${pictures}/${name}.png`)).size;
    await visit.context.close();
  }
  assert.deepEqual(Object.entries(sizes).filter(([, size]) => size > 60_000), []);
});
telling = false;
await told;

/** Whether RabbitMQ has a queue still, as the service sees it. */
async function isThere(visit, name) {
  const response = await visit.context.request.get(visit.url + queue(name));
  return response.ok();
}

await check('a queue is deleted by mouse: what is lost is told, its name is typed, and the result stays', async () => {
  const { page } = owner;
  await owner.go('/console/queues?q=mouse');
  await page.click('text=mouse');
  await page.click('text=Delete queue…');
  assert.match(await page.textContent('.losses'), /3 messages are deleted for good/);
  await page.fill('#typed', 'moose');
  await page.click('button.destroy');
  assert.match(await page.textContent('#typed-wrong'), /Nothing was done/);
  assert.ok(await isThere(owner, 'mouse'));
  await page.fill('#typed', 'mouse');
  await page.fill('#reason', evil);
  await page.click('button.destroy');
  assert.match(await page.textContent('main'), /deleted: it had 3 messages/);
  assert.ok(!await isThere(owner, 'mouse'));
  await page.click('text=To the queues');
  assert.equal(await page.locator('tr[data-key="queue/taskcluster-jobs/mouse"]').count(), 0);
  await owner.go('/console/namespaces/taskcluster-jobs');
  assert.ok((await page.textContent('main')).includes(evil), 'the reason is shown as it was given');
  assert.match(await page.textContent('main'), /amqplib \d.*127\.0\.0\.1:\d+ -> /s, 'who is connected, by the program');
  assert.equal(await page.evaluate(() => window.hacked), undefined);
});

await check('a queue is deleted by keyboard alone', async () => {
  const { page } = owner;
  await owner.go('/console/queues');
  await page.keyboard.press('?');
  assert.ok(await page.isVisible('#keys'));
  await page.keyboard.press('Escape');
  await page.keyboard.press('/');
  await page.keyboard.type('keys');
  await page.waitForFunction(() => document.querySelectorAll('#live tbody tr').length === 1);
  assert.match(page.url(), /q=keys/);
  await page.keyboard.press('Escape');
  await page.keyboard.press('j');
  await page.keyboard.press('Enter');
  await page.waitForURL(/console\/queue\?/);
  const tabTo = async text => {
    for (let n = 0; n < 60; n++) {
      await page.keyboard.press('Tab');
      if ((await page.evaluate(() => document.activeElement.textContent.trim())) === text) return;
    }
    throw new Error(`${text} can't be reached by Tab`);
  };
  await tabTo('Delete queue…');
  await page.keyboard.press('Enter');
  await page.waitForURL(/queue\/delete/);
  for (let n = 0; n < 30 && (await page.evaluate(() => document.activeElement.id)) !== 'typed'; n++) {
    await page.keyboard.press('Tab');
  }
  await page.keyboard.type('keys');
  await page.keyboard.press('Enter');
  await page.waitForSelector('text=deleted: it had 3 messages');
  assert.ok(!await isThere(owner, 'keys'));
});

await check('everything works without a script: sign in, search, select, purge and delete many, sign out', async () => {
  const visit = await visitor('owner', { javaScriptEnabled: false });
  const { page } = visit;
  await visit.go('/console/queues');
  await page.fill('#q', 'worker-0');
  await page.click('text=Apply');
  assert.equal(await page.locator('#live tbody tr').count(), 9);
  for (const name of ['worker-01', 'worker-02']) await page.check(`input[value="queue/taskcluster-jobs/${name}"]`);
  await page.click('text=Delete selected…');
  assert.match(await page.textContent('h1'), /Delete 2 queues\?/);
  await page.click('button.destroy');
  assert.equal(await page.locator('.pill.good').count(), 2);
  assert.ok(!await isThere(owner, 'worker-01') && await isThere(owner, 'worker-03'));
  await visit.go('/console/queues?q=plain');
  await page.check('input[name=queue]');
  await page.click('text=Purge selected…');
  await page.fill('#typed', 'purge 1 queue');
  await page.click('button.destroy');
  assert.match(await page.textContent('main'), /purged: it had 3 messages/);
  await visit.go('/console/queues');
  await page.click('text=Delete selected…');
  assert.match(await page.textContent('main'), /No queue was selected, so nothing was done/);
  await page.click('text=Sign out');
  await visit.go('/console/queues');
  assert.match(page.url(), /sign-in\?to=/);
  await visit.context.close();
});

await check('an exchange shows who publishes and what is bound to it', async () => {
  await owner.go(`/console/exchange?name=${encodeURIComponent('exchange/taskcluster-jobs/events')}`);
  const text = await owner.page.textContent('main');
  assert.match(text, /queue\/taskcluster-jobs\/stuck/);
  assert.match(text, /task\.\*\.failed/);
  assert.match(text, /taskcluster-jobs-1/);
});

await check('many queues are deleted with progress and a result for each, and what is typed wrong is told', async () => {
  const visit = await visitor('owner');
  const { page } = visit;
  await visit.go('/console/queues?q=worker-');
  await page.mouse.move(5, 5);
  for (let n = 5; n <= 12; n++) await page.check(`input[value="queue/taskcluster-jobs/worker-${String(n).padStart(2, '0')}"]`);
  assert.match(await page.textContent('#chosen'), /8 selected/);
  await page.click('text=Delete selected…');
  assert.match(await page.textContent('h1'), /Delete 8 queues\?/);
  await page.click('button.destroy');
  await page.waitForSelector('#progress-title:text("Done: 8 of 8")');
  assert.equal(await page.locator('#progress-lines .pill.good').count(), 8);
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Back');
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run());
  assert.deepEqual(violations.map(({ id }) => id), []);
  await page.screenshot({ path: `${shots}/progress.png`, fullPage: true });
  assert.ok(!await isThere(owner, 'worker-12') && await isThere(owner, 'worker-04'));
  await visit.go('/console/queues?q=mouse');
  assert.deepEqual(visit.wrong, []);
  await visit.context.close();
});

await check('rows stay where they are while somebody points at them, and what they say is renewed', async () => {
  const { page } = owner;
  await owner.go('/console/queues?sort=messages');
  const order = () => page.$$eval('tr[data-key]', rows => rows.map(row => row.dataset.key));
  const before = await order();
  await page.hover('tr[data-key="queue/taskcluster-jobs/growing"]');
  const size = () => page.textContent('tr[data-key="queue/taskcluster-jobs/growing"] td.n');
  const first = await size();
  await eventually(async () => assert.notEqual(await size(), first), 30_000);
  assert.deepEqual(await order(), before);
});

await check('nobody gets at what is somebody else\'s, by link or by form', async () => {
  const { context, url } = await visitor('other');
  const name = 'queue/taskcluster-jobs/kept';
  const headers = { 'sec-fetch-site': 'same-origin' };
  const exchange = 'exchange/taskcluster-jobs/events';
  for (const path of [
    queue('kept'), queue('kept').replace('?', '/delete?'), queue('kept').replace('?', '/purge?'),
    `/console/exchange/delete?name=${encodeURIComponent(exchange)}`, '/console/namespaces/taskcluster-jobs',
    '/console/namespaces/taskcluster-jobs/owners', '/console/namespaces/taskcluster-jobs/release',
    '/console/namespaces/taskcluster-jobs/revoke', '/console/namespaces/taskcluster-jobs/credentials', '/console/audit',
    '/console/audit?namespace=taskcluster-jobs',
  ]) {
    const answer = await context.request.get(url + path);
    assert.equal(answer.status(), 403, path);
    assert.ok(!(await answer.text()).includes('owner@example.com'), `${path} shows whose it is`);
  }
  for (const [path, form] of [
    ['/console/queue/delete', { name, typed: 'kept' }], ['/console/queue/purge', { name, typed: 'kept' }],
    ['/console/queues/ask', { act: 'delete', queue: name }],
    ['/console/queues/do', { act: 'delete', queue: name, typed: 'delete 1 queue' }],
    ['/console/queue/exempt', { name, reason: 'x' }], ['/console/queue/end-exemption', { name }],
    ['/console/exchange/delete', { name: exchange, typed: 'events' }],
    ['/console/namespaces/taskcluster-jobs/owners', { owners: 'other@example.com' }],
    ['/console/namespaces/taskcluster-jobs/release', { typed: 'taskcluster-jobs', reason: 'x' }],
    ['/console/namespaces/taskcluster-jobs/revoke', { typed: 'taskcluster-jobs', reason: 'x' }],
    ['/console/namespaces/taskcluster-jobs/credentials', {}],
  ]) {
    const answer = await context.request.post(url + path, { form, headers });
    assert.equal(answer.status(), 403, path);
  }
  const list = await context.request.get(`${url}/console/queues?format=json`);
  assert.deepEqual(await list.json(), []);
  assert.ok(await isThere(owner, 'kept'));
});

await check('a page of another site can\'t act in the name of who is signed in', async () => {
  const { page, context, url } = await visitor('owner');
  // The same machine under another name is another site.
  const elsewhere = url.replace('127.0.0.1', 'localhost');
  await page.route(`${elsewhere}/trap`, route => route.fulfill({
    contentType: 'text/html',
    body: `<form method="post" action="${url}/console/queue/delete"><input name="name" value="queue/taskcluster-jobs/kept">
      <input name="typed" value="kept"></form><script>document.forms[0].submit()</script>`,
  }));
  await page.goto(`${elsewhere}/trap`);
  await page.waitForSelector('text=did not come from a page of this console');
  assert.ok(await isThere(owner, 'kept'));
  await context.close();
});

await check('owners are added, and whoever leaves is warned first', async () => {
  const { page } = owner;
  await owner.go('/console/namespaces/taskcluster-empty/owners');
  await page.fill('#owners', 'other@example.com\nnobody');
  await page.click('text=Save owners');
  assert.match(await page.textContent('#owners-wrong'), /"nobody" is no owner/);
  await page.fill('#owners', 'other@example.com');
  await page.click('text=Save owners');
  assert.match(await page.textContent('main'), /its owners are other@example.com/);
  const other = await visitor('other');
  await other.go('/console/namespaces/taskcluster-empty');
  assert.match(await other.page.textContent('h1'), /taskcluster-empty/);
  await other.context.close();
});

await check('an administrator lets a queue grow, and ends that', async () => {
  const { page, context, go } = await visitor('boss');
  await go(queue('read'));
  await page.fill('#up-to', '5,000');
  await page.fill('#reason', 'a backlog after the move');
  await page.click('main button:text("Let it grow")');
  assert.match(await page.textContent('main'), /may grow up to 5,000 messages/);
  await page.click('text=To the queue');
  assert.match(await page.textContent('main'), /by person boss@example.com: a backlog after the move/);
  await page.click('text=End the exemption');
  assert.match(await page.textContent('main'), /looked after like any other again/);
  await context.close();
});

await check('a table is exported as it is shown', async () => {
  const get = path => owner.context.request.get(owner.url + path);
  const csv = await (await get('/console/queues?q=worker-0&sort=name&format=csv')).text();
  assert.deepEqual(csv.trim().split('\r\n').map(line => line.split(',')[0]),
    ['queue', ...['03', '04'].map(n => `queue/taskcluster-jobs/worker-${n}`)]);
  const json = await (await get('/console/queues?q=stuck&format=json')).json();
  assert.equal(json[0].total, 60);
  const trail = await (await get('/console/audit?namespace=taskcluster-jobs&format=json')).json();
  assert.ok(trail.some(({ action, actor }) => action === 'delete-queue' && actor === 'owner@example.com'));
});

await check('a namespace is released: it asks for the name and a reason', async () => {
  const { channel, connection } = await connect(await claim('taskcluster-gone', 'owner@example.com'));
  await channel.assertExchange('exchange/taskcluster-gone/direct', 'direct');
  await channel.assertQueue('queue/taskcluster-gone/last');
  await fill(channel, 'queue/taskcluster-gone/last', 1);
  await connection.close();
  const { page } = owner;
  await owner.go('/console/namespaces/taskcluster-gone');
  await page.click('text=Release namespace…');
  await page.fill('#typed', 'taskcluster-gone');
  await page.fill('#reason', 'moved elsewhere');
  await page.click('button.destroy');
  assert.match(await page.textContent('main'), /it is released/);
  assert.equal((await owner.context.request.get(`${owner.url}/console/namespaces/taskcluster-gone`)).status(), 404);
});

await check('who signs out everywhere is signed out everywhere', async () => {
  const [one, two] = [await visitor('other'), await visitor('other')];
  await one.go('/console/me');
  assert.ok(await one.page.locator('tbody tr').count() >= 2);
  await one.page.click('text=Sign out everywhere');
  await two.go('/console/namespaces');
  assert.match(two.page.url(), /sign-in/);
});

await inspector(check, visitor, owner, others);
await administration(check, visitor, owner);
await outages(check, visitor);

await signedIn;
await stop();
await browser.close();
