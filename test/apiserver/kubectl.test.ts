// The real kubectl against the server, and the server as a process of its own.
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const run = promisify(execFile)
const found = spawnSync('kubectl', ['version', '--client'], { stdio: 'ignore' })
const hasKubectl = found.status === 0
if (!hasKubectl) {
  console.warn(
    `kubectl cannot be run (${found.error?.message ?? `exit status ${found.status}`}): its tests are left out`,
  )
}

const directory = mkdtempSync(join(tmpdir(), 'apiserver-'))
const kubeconfig = join(directory, 'kubeconfig')
const objects = join(directory, 'objects.yaml')
let server: ChildProcess
let ready: unknown

beforeAll(async () => {
  writeFileSync(
    objects,
    `apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{port: 80}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.244.1.10]}]
ports: [{port: 8080}]
`,
  )
  const main = new URL('../support/apiserver/main.ts', import.meta.url).pathname
  const args = [
    main,
    '--listen',
    '127.0.0.1:0',
    '--kubeconfig-out',
    kubeconfig,
    '--load',
    objects,
    '--service-cidr',
    '10.5.0.0/16',
  ]
  server = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  if (server.stdout === null) throw new Error('no stdout')
  const [line] = await once(server.stdout, 'data')
  ready = JSON.parse(String(line))
})

afterAll(() => {
  server.kill('SIGKILL')
  rmSync(directory, { recursive: true })
})

async function kubectl(...args: string[]): Promise<string> {
  const { stdout } = await run('kubectl', [
    `--cache-dir=${directory}`,
    `--kubeconfig=${kubeconfig}`,
    '--namespace=shop',
    ...args,
  ])
  return stdout
}

/** A file with a Service. `kubectl create service` would send protobuf, which this server does not read. */
function serviceFile(name: string, spec: object): string {
  const file = join(directory, `${name}.json`)
  writeFileSync(file, JSON.stringify({ apiVersion: 'v1', kind: 'Service', metadata: { name }, spec }))
  return file
}

describe.runIf(hasKubectl)('kubectl (needs kubectl on the PATH)', () => {
  test('gets, creates, applies, patches, labels and deletes', async () => {
    expect(await kubectl('get', 'service', 'web', '-o', 'yaml')).toContain('clusterIP: 10.5.0.2')
    expect(await kubectl('get', 'services,endpointslices')).toMatch(
      /service\/web +ClusterIP +10\.5\.0\.2 +<none> +80\/TCP/,
    )
    expect(await kubectl('get', 'servicecidrs')).toContain('10.5.0.0/16')
    expect(await kubectl('create', '-f', serviceFile('made', { type: 'NodePort', ports: [{ port: 80 }] }))).toContain(
      'service/made created',
    )
    const apply = (port: number) => {
      const ports = [
        { name: 'a', port: 1 },
        { name: 'b', port },
      ]
      return kubectl('apply', '-f', serviceFile('applied', { ports }))
    }
    expect(await apply(2)).toContain('service/applied created')
    expect(await apply(3)).toContain('service/applied configured')
    expect(await kubectl('get', 'service', 'applied', '-o', 'jsonpath={.spec.ports[*].port}')).toBe('1 3')
    await kubectl('patch', 'service', 'web', '-p', '{"spec":{"sessionAffinity":"ClientIP"}}')
    expect(
      await kubectl('get', 'service', 'web', '-o', 'jsonpath={.spec.sessionAffinityConfig.clientIP.timeoutSeconds}'),
    ).toBe('10800')
    await kubectl('label', 'service', 'web', 'tier=front')
    expect(await kubectl('get', 'services', '-l', 'tier in (front),!x', '-o', 'name')).toBe('service/web\n')
    expect(await kubectl('describe', 'service', 'web')).toContain('10.244.1.10:8080')
    await kubectl('delete', 'service', 'made', 'applied')
    await expect(kubectl('get', 'service', 'made')).rejects.toThrow('services "made" not found')
  })

  test('watches', async () => {
    const flags = [`--cache-dir=${directory}`, `--kubeconfig=${kubeconfig}`, '--namespace=shop']
    const child = spawn('kubectl', [...flags, 'get', 'services', '--watch', '--output-watch-events'])
    let text = ''
    child.stdout.on('data', chunk => {
      text += chunk
    })
    await expect.poll(() => text, { timeout: 10_000 }).toMatch(/ADDED +web/)
    await kubectl('create', '-f', serviceFile('watched', { ports: [{ port: 80 }] }))
    await expect.poll(() => text, { timeout: 10_000 }).toMatch(/ADDED +watched/)
    await kubectl('delete', 'service', 'watched')
    await expect.poll(() => text, { timeout: 10_000 }).toMatch(/DELETED +watched/)
    child.kill()
  })
})

test('the server as a process says when it is ready and stops on SIGTERM', async () => {
  expect(ready).toMatchObject({
    ready: true,
    url: expect.stringMatching(/^https:\/\/127\.0\.0\.1:\d+$/),
    pid: server.pid,
  })
  server.kill('SIGTERM')
  const [code] = await once(server, 'exit')
  expect(code).toBe(0)
})
