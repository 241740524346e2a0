// Calls every method of the API with Taskcluster's clients for Node.js, from the oldest that knows a class Pulse to the
// newest, which is given our own reference.
import { assert, check, logIn, owner, refused, requireOld, rootUrl } from './harness.mjs';

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
