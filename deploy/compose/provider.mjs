// An identity provider that believes everybody: whoever signs in as `ada` is ada@example.com. For docker-compose.yml only.
import { generateKeyPairSync } from 'node:crypto';

import { Provider } from 'oidc-provider';

const { PORT = '9000', PULSE_URL = 'http://localhost:8080' } = process.env;
const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
const email = name => (name.includes('@') ? name : `${name}@example.com`);

const provider = new Provider(`http://localhost:${PORT}`, {
  clients: [{
    client_id: 'pulse',
    client_secret: 'only-for-a-look',
    redirect_uris: [`${PULSE_URL}/console/sign-in/callback`],
  }],
  claims: { email: ['email', 'email_verified'], profile: ['groups'] },
  cookies: { keys: ['only for a look'] },
  jwks: { keys: [{ ...key, kid: 'look', use: 'sig', alg: 'RS256' }] },
  findAccount: (_, name) => ({
    accountId: name,
    claims: () => ({ sub: name, email: email(name), email_verified: true, groups: ['everybody'] }),
  }),
});
provider.on('server_error', (_, error) => console.error(error));
provider.listen(Number(PORT), '0.0.0.0', () => console.log(`listening at http://localhost:${PORT}`));
