// Identity providers: npm's oidc-provider, as real ones are, and one that lies in whatever way it is told to.
import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import { createServer } from 'node:http';

import { Provider } from 'oidc-provider';

const listening = server => new Promise((resolve, reject) => server.once('listening', resolve).once('error', reject));
const client = { id: 'pulse', secret: 'a-secret-of-the-tests' };

/** npm's oidc-provider at this port, for the service at this URL. Whoever signs in there is who they say. */
export async function honest(port, url) {
  const provider = new Provider(`http://localhost:${port}`, {
    clients: [{
      client_id: client.id, client_secret: client.secret, redirect_uris: [`${url}/console/sign-in/callback`],
      token_endpoint_auth_method: 'client_secret_basic',
    }],
    scopes: ['openid', 'email', 'profile'],
    claims: { email: ['email', 'email_verified'], profile: ['groups'] },
    pkce: { required: () => true },
    cookies: { keys: ['of the tests'] },
    jwks: { keys: [{ ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }), kid: 'k', use: 'sig', alg: 'RS256' }] },
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: id, email: `${id}@example.com`, email_verified: id !== 'stranger', groups: ['releng', 'a b'] }),
    }),
  });
  provider.on('server_error', (_, error) => console.error(`the provider fails: ${error.stack}`));
  const server = provider.listen(port, 'localhost');
  await listening(server);
  return () => server.close();
}

const base64 = value => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

/** A provider at this port whose answers `lie` makes wrong: it gets what is right, and may change it. */
export async function hostile(port) {
  const issuer = `http://localhost:${port}`;
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const state = { nonce: '', keys: 0, lie: {} };
  const token = () => {
    const { header, claims, by, hang, ...more } = { ...state.lie };
    const now = Math.floor(Date.now() / 1000);
    const head = { alg: 'RS256', kid: 'k', typ: 'JWT', ...header };
    const body = {
      iss: issuer, aud: client.id, sub: 'liar', nonce: state.nonce, iat: now, exp: now + 300,
      email: 'boss@example.com', email_verified: true, groups: ['releng'], ...claims,
    };
    for (const name of more.without ?? []) delete body[name];
    const text = `${base64(head)}.${base64(body)}`;
    if (head.alg === 'none') return `${text}.`;
    if (head.alg === 'HS256') {
      const pem = publicKey.export({ type: 'spki', format: 'pem' });
      return `${text}.${createHmac('sha256', pem).update(text).digest('base64url')}`;
    }
    return `${text}.${sign('sha256', Buffer.from(text), by === 'other' ? other : privateKey).toString('base64url')}`;
  };
  const server = createServer((request, response) => {
    const json = (value, status = 200) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(value));
    };
    const { pathname } = new URL(request.url, issuer);
    if (pathname === state.lie.hang) return undefined;
    if (pathname === '/.well-known/openid-configuration') {
      return json({
        issuer, authorization_endpoint: `${issuer}/authorize`, token_endpoint: `${issuer}/token`,
        jwks_uri: `${issuer}/keys`,
      });
    }
    if (pathname === '/keys') {
      state.keys += 1;
      return json({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k', use: 'sig', alg: 'RS256' }] });
    }
    if (pathname === '/token') {
      return state.lie.answer ? json(state.lie.answer, state.lie.status) : json({ id_token: token(), access_token: 'x', token_type: 'Bearer' });
    }
    return json({}, 404);
  });
  server.listen(port, 'localhost');
  await listening(server);
  return { state, stop: () => { server.closeAllConnections(); server.close(); } };
}

/** A Taskcluster deployment at this port, as far as somebody signs in by it. `given` is what it gives, and may be changed. */
export async function taskcluster(port, url) {
  const given = { clientId: 'github/1234|somebody/pulse-a1B2c3', scopes: ['pulse:namespace:taskcluster-others'], asked: [] };
  const server = createServer(async (request, response) => {
    const json = (value, status = 200) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(value));
    };
    const { pathname, searchParams } = new URL(request.url, url);
    let body = '';
    for await (const chunk of request) body += chunk;
    given.asked.push(pathname);
    if (pathname === '/login/oauth/authorize') {
      const back = new URL(searchParams.get('redirect_uri'));
      back.searchParams.set('code', 'a-code');
      back.searchParams.set('state', searchParams.get('state'));
      response.writeHead(302, { location: back.href });
      return response.end();
    }
    if (pathname === '/login/oauth/token') {
      const form = new URLSearchParams(body);
      const good = form.get('code') === 'a-code' && form.get('client_id') === 'pulse' && form.get('redirect_uri') === `${url}/console/sign-in/taskcluster/callback`;
      return good ? json({ access_token: 'a-token', token_type: 'Bearer' }) : json({ error: 'invalid_grant' }, 400);
    }
    if (pathname === '/login/oauth/credentials' && request.headers.authorization === 'Bearer a-token') {
      return json({ expires: '2030-01-01T00:00:00Z', credentials: { clientId: given.clientId, accessToken: 'an-access-token' } });
    }
    if (pathname === '/api/auth/v1/scopes/current' && request.headers.authorization?.includes(`id="${given.clientId}"`)) {
      return json({ scopes: given.scopes });
    }
    return json({ code: 'ResourceNotFound', message: 'no' }, 404);
  });
  server.listen(port, 'localhost');
  await listening(server);
  return { given, stop: () => { server.closeAllConnections(); server.close(); } };
}
