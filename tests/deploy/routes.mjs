// Checks HTTPRoutes by the schemas of the Gateway API.
//
// Usage: node routes.mjs <file of rendered manifests>
import { readFileSync } from 'node:fs';
import { HTTPRoute } from '@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute';
import { loadAll } from 'js-yaml';

const routes = loadAll(readFileSync(process.argv[2], 'utf8')).filter(one => one?.kind === 'HTTPRoute');
const name = 'the HTTPRoute fits the Gateway API';
try {
  if (routes.length === 0) throw new Error('there is none');
  routes.forEach(one => new HTTPRoute(one).validate());
  console.log(`ok ${name}`);
} catch (error) {
  console.log(`FAILED ${name}: ${error.message}`);
}
