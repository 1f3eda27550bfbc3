// The application's side of [access.webhook]: says who may open which database.
// node examples/access-webhook.mjs PORT, with the secret in WEBHOOK_SECRET.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';

const SECRET = process.env.WEBHOOK_SECRET;
const USERS = new Map([['annas-token', 'anna'], ['bertas-token', 'berta']]);

function signed(header = '', body) {
  const [, time, hex] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(header) ?? [];
  if (!time || Math.abs(Date.now() / 1000 - time) > 300) return false;
  const own = createHmac('sha256', SECRET).update(`${time}.${body}`).digest();
  return timingSafeEqual(own, Buffer.from(hex, 'hex'));
}

function judge({ request, credentials, database }) {
  const user = USERS.get(credentials?.token);
  if (!user) return { denied: { kind: 'unauthorized', reason: 'log in again' } };
  if (request === 'server') return { grant: { user } };
  if (database !== `user-${user}`) return { denied: { kind: 'forbidden', reason: 'not yours' } };
  return { grant: { user, read: true, write: true, create_on_open: true, expires_in_s: 3600 } };
}

const server = createServer(async (request, response) => {
  let body = '';
  for await (const piece of request.setEncoding('utf8')) body += piece;
  if (!signed(request.headers['settee-signature'], body)) {
    response.writeHead(401).end();
    return;
  }
  response.setHeader('Content-Type', 'application/json');
  response.end(JSON.stringify(judge(JSON.parse(body))));
});
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log(server.address().port));
