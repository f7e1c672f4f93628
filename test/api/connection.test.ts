// Who we are to the API server: kubeconfigs, service accounts, plugins, and what is said when they cannot be used.
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { dump } from 'js-yaml'
import { afterEach, expect, onTestFinished, test, vi } from 'vitest'
import { type ConnectionOptions, openConnection } from '../../src/api/connection.ts'
import { type Connection, readAll } from '../../src/api/transport.ts'
import { startServer, temporaryDirectory } from './harness.ts'

interface Seen {
  readonly url: string
  readonly method: string
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

/** A plain HTTP server that answers what it is told and remembers what it was asked. */
async function echoServer(statusOf: (seen: Seen) => number = () => 200): Promise<{ url: string; seen: Seen[] }> {
  const seen: Seen[] = []
  const server = http.createServer(async (request, response) => {
    const one = {
      url: request.url ?? '',
      method: request.method ?? '',
      headers: request.headers,
      body: await readAll(request),
    }
    seen.push(one)
    response.writeHead(statusOf(one)).end('{"ok":true}')
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const address = server.address()
  return { url: `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`, seen }
}

function open(options: ConnectionOptions): Connection {
  const connection = openConnection(options)
  onTestFinished(() => connection.close())
  return connection
}

async function get(connection: Connection, at = '/version'): Promise<number> {
  const response = await connection.request(at, { a: 1 }, { signal: new AbortController().signal })
  await readAll(response.body)
  return response.status
}

function kubeconfig(server: string, user: object, directory = temporaryDirectory()): string {
  const file = path.join(directory, 'config')
  const contexts = [{ name: 'c', context: { cluster: 'c', user: 'u' } }]
  const clusters = [{ name: 'c', cluster: { server } }]
  writeFileSync(file, dump({ clusters, contexts, users: [{ name: 'u', user }], 'current-context': 'c' }))
  return file
}

afterEach(() => {
  vi.unstubAllEnvs()
})

test('a token, and a server below a path', async () => {
  const { url, seen } = await echoServer()
  expect(await get(open({ kubeconfig: kubeconfig(`${url}/clusters/x/`, { token: 'secret' }), userAgent: 'me' }))).toBe(
    200,
  )
  expect(seen[0]?.url).toBe('/clusters/x/version?a=1')
  expect(seen[0]?.headers).toMatchObject({
    authorization: 'Bearer secret',
    accept: 'application/json',
    'user-agent': 'me',
  })
})

test('name and password', async () => {
  const { url, seen } = await echoServer()
  await get(open({ kubeconfig: kubeconfig(url, { username: 'a', password: 'b' }) }))
  expect(seen[0]?.headers.authorization).toBe('Basic YTpi')
})

test('the token file of kubeadm wins over a token, and is read for every request', async () => {
  const { url, seen } = await echoServer()
  const directory = temporaryDirectory()
  const tokenFile = path.join(directory, 'token')
  writeFileSync(tokenFile, 'first\n')
  const connection = open({ kubeconfig: kubeconfig(url, { token: 'old', tokenFile }, directory) })
  await get(connection)
  writeFileSync(tokenFile, 'second\n')
  await get(connection)
  expect(seen.map(({ headers }) => headers.authorization)).toEqual(['Bearer first', 'Bearer second'])
})

test('in a pod: host, port, token and CA of the service account', async () => {
  const server = await startServer({})
  const root = temporaryDirectory()
  const account = path.join(root, 'var/run/secrets/kubernetes.io/serviceaccount')
  mkdirSync(account, { recursive: true })
  writeFileSync(path.join(account, 'token'), `${server.token}\n`)
  writeFileSync(path.join(account, 'ca.crt'), server.ca)
  vi.stubEnv('KUBERNETES_SERVICE_HOST', '127.0.0.1')
  vi.stubEnv('KUBERNETES_SERVICE_PORT', String(server.port))
  const connection = open({ root })
  expect(await get(connection, '/api/v1/services')).toBe(200)
  const token = server.rotateToken()
  expect(await get(connection, '/api/v1/services')).toBe(401)
  writeFileSync(path.join(account, 'token'), `${token}\n`)
  expect(await get(connection, '/api/v1/services')).toBe(200)
})

test('an exec plugin beside the kubeconfig is run, and run again on 401', async () => {
  const { url, seen } = await echoServer(({ headers }) => (headers.authorization === 'Bearer 2-extra' ? 200 : 401))
  const directory = temporaryDirectory()
  const plugin = path.join(directory, 'plugin')
  // Counts its runs; and it fails without the information that client-go gives to plugins.
  writeFileSync(
    plugin,
    `#!/bin/sh
cd "$(dirname "$0")"
case "$KUBERNETES_EXEC_INFO" in *ExecCredential*) ;; *) echo "no exec info" >&2; exit 1 ;; esac
echo x >> runs
echo "{\\"kind\\":\\"ExecCredential\\",\\"status\\":{\\"token\\":\\"$(wc -l < runs | tr -d ' ')-$1\\"}}"
`,
  )
  chmodSync(plugin, 0o755)
  const exec = {
    apiVersion: 'client.authentication.k8s.io/v1',
    command: './plugin',
    args: ['extra'],
    env: [{ name: 'A', value: 'b' }],
  }
  const connection = open({ kubeconfig: kubeconfig(url, { exec }, directory) })
  expect(await get(connection)).toBe(200)
  expect(await get(connection)).toBe(200)
  expect(seen.map(({ headers }) => headers.authorization)).toEqual([
    'Bearer 1-extra',
    'Bearer 2-extra',
    'Bearer 2-extra',
  ])
})

test('an exec plugin that hangs does not hold who gives up', async () => {
  const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'sleep', args: ['2'] }
  const connection = open({ kubeconfig: kubeconfig('http://127.0.0.1:1', { exec }) })
  const signal = AbortSignal.timeout(50)
  await expect(connection.request('/version', {}, { signal })).rejects.toThrow(/timeout/i)
})

test('a plugin that is not there is named', async () => {
  const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'no-such-plugin' }
  await expect(get(open({ kubeconfig: kubeconfig('http://127.0.0.1:1', { exec }) }))).rejects.toThrow(
    /cannot get credentials for http:\/\/127\.0\.0\.1:1: .*no-such-plugin/,
  )
})

test('--master wins over the server of the kubeconfig, and does without one', async () => {
  const { url, seen } = await echoServer()
  const file = kubeconfig('https://192.0.2.1', { token: 't' })
  await get(open({ kubeconfig: file, master: url }))
  await get(open({ master: url.replace('http://', '') }))
  expect(seen.map(({ headers }) => headers.authorization)).toEqual(['Bearer t', undefined])
})

test('many requests share one connection', async () => {
  const server = await startServer({})
  const file = path.join(temporaryDirectory(), 'config')
  writeFileSync(file, server.kubeconfig())
  const connection = open({ kubeconfig: file })
  for (let i = 0; i < 10; i++) expect(await get(connection, '/api/v1/services')).toBe(200)
  expect(server.acceptedSockets).toBe(1)
})

test('a kept connection that the server has dropped is replaced without a failure', async () => {
  const server = await startServer({})
  const file = path.join(temporaryDirectory(), 'config')
  writeFileSync(file, server.kubeconfig())
  const connection = open({ kubeconfig: file })
  for (let i = 0; i < 10; i++) {
    expect(await get(connection, '/api/v1/services')).toBe(200)
    server.dropConnections()
  }
})

test('sends a body and hands back the answer, or the status that was no success', async () => {
  const server = await startServer({})
  const file = path.join(temporaryDirectory(), 'config')
  writeFileSync(file, server.kubeconfig())
  const connection = open({ kubeconfig: file })
  const body = { apiVersion: 'v1', kind: 'Service', metadata: { name: 'a' }, spec: { ports: [{ port: 80 }] } }
  const made = await connection.send('POST', '/api/v1/namespaces/default/services', body)
  expect(made).toMatchObject({ kind: 'Service', metadata: { name: 'a' } })
  await expect(connection.send('POST', '/api/v1/namespaces/default/services', body)).rejects.toMatchObject({
    status: 409,
    reason: 'AlreadyExists',
  })
})

test.each<[string, (directory: string) => ConnectionOptions, RegExp]>([
  [
    'a file that is not there',
    directory => ({ kubeconfig: path.join(directory, 'none') }),
    /cannot read kubeconfig .*none: ENOENT/,
  ],
  ['a file that is no YAML', directory => ({ kubeconfig: file(directory, 'a: [') }), /cannot read kubeconfig/],
  ['an empty file', directory => ({ kubeconfig: file(directory, '') }), /cannot read kubeconfig/],
  ['no context', directory => ({ kubeconfig: file(directory, 'kind: Config') }), /current-context "" names no context/],
  ['nothing at all', () => ({}), /no API server is given/],
])('says clearly: %s', (_name, options, message) => {
  vi.stubEnv('KUBERNETES_SERVICE_HOST', undefined)
  vi.stubEnv('KUBERNETES_SERVICE_PORT', undefined)
  expect(() => openConnection(options(temporaryDirectory()))).toThrow(message)
})

function file(directory: string, contents: string): string {
  const at = path.join(directory, 'broken')
  writeFileSync(at, contents)
  return at
}
