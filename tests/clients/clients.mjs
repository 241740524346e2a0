// Calls every method of the API with Taskcluster's clients for Node.js, from the oldest that knows a class Pulse to the
// newest, which is given our own reference.
import { assert, check, declare, eventually, logIn, owner, refused, requireOld, rootUrl } from './harness.mjs';

const scope = namespace => `pulse:namespace:${namespace}`;

async function fetchJson(url) {
  const response = await fetch(url);
  assert.equal(response.status, 200, url);
  return response.json();
}

const newest = (await import('taskcluster-client')).default;
const reference = await fetchJson(`${rootUrl}/references/pulse/v1/api.json`);
const load = async name => (await import(name)).default;
const libraries = [
  { version: '2.5.4', library: await load('taskcluster-client-2'), at: { baseUrl: `${rootUrl}/v1` } },
  { version: '3.0.2', library: await load('taskcluster-client-3'), at: { baseUrl: `${rootUrl}/v1/` } },
  { version: '11.0.4', library: await load('taskcluster-client-11'), at: { rootUrl } },
  { version: '12.0.0', library: await load('taskcluster-client-12'), at: { rootUrl: `${rootUrl}/` } },
  { version: '87.1.3', library: newest, at: { rootUrl }, Pulse: newest.createClient(reference, 'Pulse') },
];
assert.equal(requireOld('taskcluster-client/package.json').version, '11.0.4', 'the one that lib-pulse uses');

async function checkLibrary({ version, library, at, Pulse = library.Pulse }) {
  const name = what => `taskcluster-client ${version}: ${what}`;
  const client = options => new Pulse({ ...at, credentials: owner, ...options });
  const temporary = (scopes, options) => library.createTemporaryCredentials({
    credentials: owner, scopes, start: new Date(), expiry: library.fromNow('1 hour'), ...options,
  });
  const namespace = `taskcluster-js-${version.replaceAll('.', '-')}`;
  const pulse = client();

  await check(name('ping'), async () => {
    assert.equal((await new Pulse(at).ping()).alive, true);
  });

  await check(name('claimNamespace returns a connection string that logs in'), async () => {
    const expires = library.fromNow('1 day');
    const claim = await pulse.claimNamespace(namespace, { expires, contact: 'somebody@example.com' });
    assert.deepEqual(Object.keys(claim), ['namespace', 'created', 'expires', 'connectionString', 'reclaimAt']);
    assert.equal(claim.namespace, namespace);
    assert.equal(claim.expires, expires.toJSON());
    assert.ok(new Date(claim.created) <= new Date());
    assert.ok(new Date(claim.reclaimAt) > new Date());
    await logIn(namespace, claim.connectionString);
  });

  await check(name('claimNamespace leaves out what is undefined'), async () => {
    const claim = await pulse.claimNamespace(namespace, { expires: undefined, contact: undefined });
    await logIn(namespace, claim.connectionString);
    assert.equal((await pulse.namespace(namespace)).contact, 'somebody@example.com');
  });

  await check(name('namespace returns what anybody may know, and no secret'), async () => {
    const found = await new Pulse({ ...at, credentials: {} }).namespace(namespace);
    assert.deepEqual(Object.keys(found), ['namespace', 'created', 'expires', 'contact']);
    assert.equal(found.namespace, namespace);
    assert.equal(found.contact, '');
  });

  await check(name('listNamespaces pages through all'), async () => {
    for (const more of ['-a', '-b', '-c']) await pulse.claimNamespace(namespace + more, {});
    const all = (await pulse.listNamespaces()).namespaces;
    assert.ok(all.length >= 4);
    const paged = [];
    let options = { limit: 2 };
    do {
      const page = await pulse.listNamespaces(options);
      assert.ok(page.namespaces.length <= 2);
      paged.push(...page.namespaces);
      // The references of 2.x and 3.x call it `continuation`, which no service has accepted since 2018.
      if ('baseUrl' in at) return;
      options = page.continuationToken ? { limit: 2, continuationToken: page.continuationToken } : null;
    } while (options);
    assert.deepEqual(paged, all);
  });

  // All but the newest have the reference of 2018.
  if (library === newest) {
    await check(name('setOwners changes owners, which the audit trail has'), async () => {
      const set = await pulse.setOwners(namespace, { owners: ['you@example.com', 'group:releng'] });
      assert.deepEqual(set, { owners: ['you@example.com', 'group:releng'], contact: 'somebody@example.com' });
      assert.deepEqual(await pulse.owners(namespace), set);
      const { records } = await pulse.listNamespaceAudit(namespace, { action: 'set-owners', limit: 1 });
      assert.match(records[0].reason, /to you@example\.com, group:releng$/);
      await refused(pulse.listAudit(), { statusCode: 403, code: 'InsufficientScopes', message: /pulse:audit/ });
    });

    await check(name('listQueues, queue, purgeQueue, deleteQueue and deleteQueues work under any name'), async () => {
      const queues = ['greetings', 'ü %/*\u0001"', 'b', 'c'].map(queue => `queue/${namespace}/${queue}`);
      await declare((await pulse.claimNamespace(namespace, {})).connectionString, queues);
      const listed = await eventually(async () => {
        const found = (await pulse.listQueues(namespace)).queues.map(one => one.queue);
        assert.deepEqual(found, [...queues].sort());
        return found;
      });
      const paged = [];
      for (let options = { limit: 3 }; options;) {
        const page = await pulse.listQueues(namespace, options);
        paged.push(...page.queues.map(one => one.queue));
        options = page.continuationToken ? { limit: 3, continuationToken: page.continuationToken } : null;
      }
      assert.deepEqual(paged, listed);
      const search = { search: 'Ü %', minMessages: 0, state: 'fine' };
      assert.deepEqual((await pulse.listQueues(namespace, search)).queues.map(one => one.queue), [queues[1]]);
      const shown = await pulse.queue(namespace, queues[0]);
      assert.deepEqual([shown.kind, shown.exclusive, shown.total, shown.ready], ['classic', false, 0, 0]);
      assert.deepEqual(shown.bindings, [{ exchange: `exchange/${namespace}/greetings`, routingKey: '#' }]);
      const result = { queue: queues[1], messages: 0 };
      assert.deepEqual(await pulse.purgeQueue(namespace, queues[1]), { ...result, result: 'emptied' });
      const reason = { reason: 'a test, with ü & =' };
      assert.deepEqual(await pulse.deleteQueue(namespace, queues[1], reason), { ...result, result: 'deleted' });
      const absent = await pulse.deleteQueues(namespace, { queues: [queues[1], queues[3]], dryRun: true });
      assert.deepEqual(absent.results.map(one => one.result), ['would be deleted', 'absent']);
      const all = await pulse.deleteQueues(namespace, { pattern: `queue/${namespace}/*`, reason: 'leftovers' });
      assert.deepEqual(all.results.map(one => one.result), ['deleted', 'deleted', 'deleted']);
      assert.equal(all.left, 0);
      assert.deepEqual((await pulse.listQueues(namespace)).queues, []);
      const { records } = await pulse.listNamespaceAudit(namespace, { action: 'delete-queue', limit: 4 });
      assert.equal(records[3].reason, 'it had 0 messages; a test, with ü & =');
      await refused(pulse.queue(namespace, queues[1]), { statusCode: 404, code: 'ResourceNotFound', message: /^No such queue\n/ });
      await refused(pulse.listQueues('elsewhere'), { statusCode: 403, code: 'InsufficientScopes', message: /pulse:manage:elsewhere/ });
    });

    await check(name('listExchanges and deleteExchange work'), async () => {
      const exchange = `exchange/${namespace}/greetings`;
      const [found] = (await pulse.listExchanges(namespace, { search: 'greet', limit: 10 })).exchanges;
      assert.deepEqual(found, { exchange, kind: 'topic', durable: true, autoDelete: false, internal: false });
      assert.deepEqual(await pulse.deleteExchange(namespace, exchange, { reason: 'a test' }), {});
      assert.deepEqual((await pulse.listExchanges(namespace)).exchanges, []);
    });

    await check(name('setExemption and removeExemption work under any name'), async () => {
      const queue = `queue/${namespace}/ü %/*`;
      const granted = await pulse.setExemption(namespace, queue, { upTo: 50000, reason: 'a slow reader' });
      assert.equal(granted.queue, queue);
      const { exemptions } = await pulse.listExemptions(namespace);
      assert.deepEqual(exemptions, [granted]);
      assert.deepEqual(await pulse.removeExemption(namespace, queue), {});
      assert.deepEqual((await pulse.listExemptions(namespace)).exemptions, []);
    });

    await check(name('revokeCredentials, disableNamespace, enableNamespace and releaseNamespace work'), async () => {
      const [reason, ending] = ['it was leaked', `${namespace}-ends`];
      const done = { namespace: ending, state: 'done' };
      const before = await pulse.claimNamespace(ending, {});
      assert.deepEqual(await pulse.revokeCredentials(ending, { reason }), done);
      const after = await pulse.claimNamespace(ending, {});
      assert.notEqual(after.connectionString, before.connectionString);
      await logIn(ending, after.connectionString);
      await assert.rejects(logIn(ending, before.connectionString));
      await refused(pulse.disableNamespace(ending, { reason }), { statusCode: 403, code: 'InsufficientScopes', message: /pulse:admin/ });
      const admin = client({ credentials: { ...owner, clientId: 'tests/admin' } });
      assert.deepEqual(await admin.disableNamespace(ending, { reason }), done);
      await refused(pulse.claimNamespace(ending, {}), { statusCode: 409, code: 'RequestConflict', message: /it was leaked/ });
      const enabled = await admin.enableNamespace(ending, { reason });
      assert.equal(enabled.state, 'pending');
      assert.match(enabled.why, /can be claimed from/);
      assert.equal((await pulse.releaseNamespace(ending, { reason })).namespace, ending);
      await refused(pulse.namespace(ending), { statusCode: 404, code: 'ResourceNotFound', message: /No such namespace/ });
    });

    await check(name('createAccount, newCredentials, adoptUser, moveOn and retireUser work'), async () => {
      const account = `${namespace}-person`;
      const administrator = client({ credentials: { ...owner, clientId: 'tests/admin' } });
      await refused(pulse.createAccount(account, { owners: ['you@example.com'] }), {
        statusCode: 403, code: 'InsufficientScopes', message: /pulse:admin/,
      });
      const first = await administrator.createAccount(account, { owners: ['you@example.com'] });
      await logIn(account, first.connectionString);
      const second = await pulse.newCredentials(account, {});
      await logIn(account, first.connectionString);
      await logIn(account, second.connectionString);
      const third = await pulse.newCredentials(account, { endOld: true });
      assert.equal(third.oldEnded, true);
      await logIn(account, third.connectionString);
      await assert.rejects(logIn(account, second.connectionString));
      const shown = await pulse.account(account);
      assert.deepEqual([shown.schedule, shown.owners], ['on-demand', ['you@example.com']]);
      await refused(pulse.claimNamespace(account, {}), {
        statusCode: 409, code: 'RequestConflict', message: /is an account/,
      });
      await refused(administrator.adoptUser(`${account}-else`, { owners: ['you@example.com'] }), {
        statusCode: 409, code: 'RequestConflict', message: /RabbitMQ has no such user/,
      });
      for (const call of [() => pulse.moveOn(account, { schedule: 'rotating' }), () => pulse.retireUser(account)]) {
        await refused(call(), { statusCode: 409, code: 'RequestConflict', message: /adopted user any more/ });
      }
    });
  }

  await check(name('400 for a name that can\'t be, with its text'), async () => {
    const error = await refused(pulse.claimNamespace('taskcluster-a/b', {}), {
      statusCode: 400,
      code: 'InvalidRequestArguments',
      message: /^Invalid URL patterns:\nURL parameter 'namespace' given {2}as 'taskcluster-a\/b' is not valid: /,
    });
    assert.equal(error.body.requestInfo.method, 'claimNamespace');
    assert.deepEqual(error.body.requestInfo.params, { namespace: 'taskcluster-a/b' });
  });

  await check(name('400 for a payload that its schema rejects, with its text'), async () => {
    await refused(pulse.claimNamespace(namespace, { expires: 'soon' }), {
      statusCode: 400,
      code: 'InputValidationError',
      message: /\nSchema Validation Failed!\n[^]* {2}\* data\/expires must match format "date-time"\n/,
    });
  });

  await check(name('401 for a wrong access token, with its text'), async () => {
    const credentials = { ...owner, accessToken: owner.accessToken.replace(/^./, 'x') };
    await refused(client({ credentials }).claimNamespace(namespace, {}), {
      statusCode: 401, code: 'AuthenticationFailed', message: /^Unauthorized: Bad mac\n/,
    });
  });

  await check(name('401 for an unknown client, with its text'), async () => {
    const credentials = { ...owner, clientId: 'nobody' };
    await refused(client({ credentials }).claimNamespace(namespace, {}), {
      statusCode: 401, code: 'AuthenticationFailed', message: /^Client with clientId 'nobody' not found\n/,
    });
  });

  await check(name('403 for a namespace of somebody else, with its text'), async () => {
    await refused(pulse.claimNamespace('elsewhere', {}), {
      statusCode: 403,
      code: 'InsufficientScopes',
      message: new RegExp(`^Client ID ${owner.clientId} does not have sufficient scopes and is missing the following ` +
        'scopes:\n[^]*pulse:namespace:elsewhere[^]*\n\\* statusCode: 403\n'),
    });
  });

  await check(name('403 without credentials, with its text'), async () => {
    await refused(client({ credentials: {} }).claimNamespace(namespace, {}), {
      statusCode: 403,
      code: 'InsufficientScopes',
      message: /^This request requires Taskcluster credentials that satisfy the following scope expression:\n/,
    });
  });

  await check(name('404 for a namespace that nobody claimed, with its text'), async () => {
    await refused(pulse.namespace('taskcluster-nothing'), {
      statusCode: 404, code: 'ResourceNotFound', message: /^No such namespace\n/,
    });
  });

  for (const [kind, options] of [['unnamed', {}], ['named', { clientId: `${owner.clientId}/temporary` }]]) {
    await check(name(`${kind} temporary credentials claim what their scopes allow`), async () => {
      const credentials = temporary([scope(namespace)], options);
      assert.ok(credentials.certificate);
      const claim = await client({ credentials }).claimNamespace(namespace, {});
      await logIn(namespace, claim.connectionString);
      await refused(client({ credentials }).claimNamespace(`${namespace}-a`, {}), {
        statusCode: 403, code: 'InsufficientScopes', message: /does not have sufficient scopes/,
      });
    });
  }

  await check(name('temporary credentials with more scopes than their issuer are refused'), async () => {
    const credentials = temporary([scope('elsewhere')]);
    await refused(client({ credentials }).claimNamespace('elsewhere', {}), {
      statusCode: 401, code: 'AuthenticationFailed', message: /scopes/,
    });
  });

  await check(name('authorizedScopes limit a client to them'), async () => {
    const limited = client({ authorizedScopes: [scope(namespace)] });
    await logIn(namespace, (await limited.claimNamespace(namespace, {})).connectionString);
    await refused(limited.claimNamespace(`${namespace}-a`, {}), {
      statusCode: 403, code: 'InsufficientScopes', message: /does not have sufficient scopes/,
    });
  });

  await check(name('authorizedScopes limit temporary credentials too'), async () => {
    const credentials = temporary([scope(`${namespace}*`)]);
    const limited = client({ credentials, authorizedScopes: [scope(namespace)] });
    await logIn(namespace, (await limited.claimNamespace(namespace, {})).connectionString);
    await refused(limited.claimNamespace(`${namespace}-a`, {}), {
      statusCode: 403, code: 'InsufficientScopes', message: /does not have sufficient scopes/,
    });
  });

  // Every GET is open to anybody, so all that the service has to do about the signature is not to mind it.
  await check(name('buildSignedUrl makes a URL that can be fetched'), async () => {
    const url = await pulse.buildSignedUrl(pulse.namespace, namespace, { expiration: 60 });
    assert.match(url, /[?&]bewit=/);
    assert.equal((await fetchJson(url)).namespace, namespace);
  });
}

for (const library of libraries) await checkLibrary(library);
