// /healthz and /livez over a real socket.
import { afterEach, describe, expect, it } from 'vitest'
import { healthHandler } from '../../src/health/health-server.ts'
import { HttpListener } from '../../src/health/listener.ts'
import { ProxyHealth } from '../../src/health/proxy-health.ts'
import { ask, ip } from './client.ts'

const open: HttpListener[] = []
afterEach(async () => {
  await Promise.all(open.splice(0).map(listener => listener.close()))
})

async function serve() {
  let now = 0
  const answers: string[] = []
  const changes: string[] = []
  const health = new ProxyHealth({ families: ['IPv4'], timeoutMs: 60_000, now: () => now, date: () => now })
  const listener = new HttpListener({
    binding: { address: ip('0.0.0.0'), port: 0, dualStack: true },
    handle: healthHandler({
      health,
      onAnswer: (endpoint, code) => answers.push(`${endpoint} ${code}`),
      onChange: (endpoint, ok, problems) => changes.push(`${endpoint} ${ok} ${problems.length}`),
    }),
    onListenFailure: () => undefined,
  })
  open.push(listener)
  await listener.start()
  const port = listener.listeningAt?.port ?? 0
  const pass = (ms: number) => {
    now += ms
  }
  return { health, answers, changes, port, pass }
}

describe('the health server', () => {
  it("answers with kube-proxy's codes and headers over both families, and counts", async () => {
    const { health, answers, changes, port, pass } = await serve()
    expect((await ask(port, '/healthz')).status).toBe(503)
    expect((await ask(port, '/livez', { host: '::1' })).status).toBe(200)
    health.synced('IPv4')
    health.nodeEligible(true)
    const ready = await ask(port, '/healthz?verbose')
    expect(ready.status).toBe(200)
    expect(ready.headers).toMatchObject({ 'content-type': 'application/json', 'x-content-type-options': 'nosniff' })
    expect(JSON.parse(ready.body)).toEqual(health.ready().report)
    const live = await ask(port, '/livez')
    expect(JSON.parse(live.body)).toEqual(health.live().report)
    expect(live.headers).toMatchObject({ 'content-type': 'application/json', 'x-content-type-options': 'nosniff' })
    health.queued('IPv4')
    pass(60_000)
    expect((await ask(port, '/livez')).status).toBe(503)
    expect(answers).toEqual(['healthz 503', 'livez 200', 'healthz 200', 'livez 200', 'livez 503'])
    expect(changes).toEqual(['healthz false 2', 'livez true 1', 'healthz true 0', 'livez false 1'])
  })

  it('answers any method, and HEAD without a body', async () => {
    const { port, health } = await serve()
    health.synced('IPv4')
    health.nodeEligible(true)
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
      const { status, body } = await ask(port, '/healthz', { method })
      expect([status, JSON.parse(body).healthy]).toEqual([200, true])
    }
    const head = await ask(port, '/healthz', { method: 'HEAD' })
    expect([head.status, head.body]).toEqual([200, ''])
  })

  it('has no other paths, and does not count them', async () => {
    const { port, answers } = await serve()
    for (const path of ['/', '/healthz/', '/healthz/x', '/metrics']) {
      expect(await ask(port, path)).toMatchObject({ status: 404, body: '404 page not found\n' })
    }
    expect(answers).toEqual([])
  })
})
