// The per-Service health checks on real sockets: what a load balancer sees while Services, ports and addresses change.
import { Agent } from 'node:http'
import { afterEach, describe, expect, it } from 'vitest'
import { ServiceHealth, type ServiceHealthCheck } from '../../src/health/service-health.ts'
import type { IP } from '../../src/net/ip.ts'
import { ask, freePort, ip, occupy, refusal, until } from './client.ts'

const open: ServiceHealth[] = []
afterEach(async () => {
  await Promise.all(open.splice(0).map(checks => checks.close()))
})

function make({
  addresses = [ip('127.0.0.1')],
  retryMs = 60_000,
}: {
  addresses?: readonly IP[]
  retryMs?: number
} = {}) {
  const failures: string[] = []
  const state = { healthy: true, addresses }
  const checks = new ServiceHealth({
    addresses: () => state.addresses,
    isProxyHealthy: () => state.healthy,
    onListenFailure: (service, port, reason) => failures.push(`${service} ${port}: ${reason}`),
    patience: { retryMs },
  })
  open.push(checks)
  return { checks, failures, state }
}

const desired = (entries: Readonly<Record<string, [port: number, localEndpoints: number]>>) =>
  new Map<string, ServiceHealthCheck>(
    Object.entries(entries).map(([service, [port, localEndpoints]]) => [service, { port, localEndpoints }]),
  )

/** The status once somebody listens. */
async function served(port: number, host = '127.0.0.1'): Promise<number> {
  let status = 0
  await until(async () => {
    const text = await refusal(port, '/', { host })
    status = Number(/^status (\d+)$/.exec(text)?.[1] ?? 0)
    return status > 0
  })
  return status
}

describe('a check', () => {
  it("answers any path and method with kube-proxy's headers and payload", async () => {
    const { checks } = make()
    const port = await freePort()
    checks.update(desired({ 'shop/web': [port, 2] }))
    await served(port)
    const reply = await ask(port, '/any/path?x', { method: 'POST', body: 'x' })
    expect(reply.status).toBe(200)
    expect(reply.headers).toMatchObject({
      'content-type': 'application/json',
      'x-content-type-options': 'nosniff',
      'x-load-balancing-endpoint-weight': '2',
    })
    expect(reply.body).toBe(
      '{\n\t"service": {\n\t\t"namespace": "shop",\n\t\t"name": "web"\n\t},\n\t"localEndpoints": 2,\n\t"serviceProxyHealthy": true\n}',
    )
  })

  it('fails without local endpoints, and while the proxy is not healthy', async () => {
    const { checks, state } = make()
    const port = await freePort()
    checks.update(desired({ 'shop/web': [port, 0] }))
    expect(await served(port)).toBe(503)
    expect((await ask(port, '/')).headers['x-load-balancing-endpoint-weight']).toBe('0')
    checks.update(desired({ 'shop/web': [port, 1] }))
    expect((await ask(port, '/')).status).toBe(200)
    state.healthy = false
    const reply = await ask(port, '/')
    expect([reply.status, JSON.parse(reply.body).serviceProxyHealthy]).toEqual([503, false])
    expect(reply.headers['x-load-balancing-endpoint-weight']).toBe('1')
  })

  it('keeps its connections while its Service stays, and cuts them when it goes', async () => {
    const { checks } = make()
    const [port, other] = [await freePort(), await freePort()]
    checks.update(desired({ 'shop/web': [port, 1] }))
    await served(port)
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    expect((await ask(port, '/', { agent })).status).toBe(200)
    checks.update(desired({ 'shop/web': [port, 0], 'shop/other': [other, 1] }))
    expect((await ask(port, '/', { agent })).status).toBe(503)
    const sent = refusal(port, '/', { agent })
    checks.update(desired({ 'shop/other': [other, 1] }))
    // Whether the request was on its way or not: no answer, least of all an empty 200.
    expect(await sent).toMatch(/^(ECONNRESET|EPIPE|ECONNREFUSED|socket hang up)$/)
    expect(await refusal(port)).toBe('ECONNREFUSED')
    expect(await served(other)).toBe(200)
    agent.destroy()
  })

  it('follows its port, and another Service may have the former one at once', async () => {
    const { checks, failures } = make()
    const [first, second] = [await freePort(), await freePort()]
    checks.update(desired({ 'shop/web': [first, 1] }))
    await served(first)
    checks.update(desired({ 'shop/web': [second, 1], 'shop/next': [first, 0] }))
    expect(await served(second)).toBe(200)
    expect(await served(first)).toBe(503)
    expect(JSON.parse((await ask(first, '/')).body).service.name).toBe('next')
    expect(failures).toEqual([])
  })

  it('is set and removed alone as well', async () => {
    const { checks } = make()
    const [first, second] = [await freePort(), await freePort()]
    checks.change(desired({ 'shop/web': [first, 1] }))
    checks.change(desired({ 'shop/other': [second, 1] }))
    expect([await served(first), await served(second)]).toEqual([200, 200])
    checks.change(desired({ 'shop/web': [first, 0] }))
    expect([await served(first), await served(second)]).toEqual([503, 200])
    checks.change(
      new Map([
        ['shop/web', undefined],
        ['shop/unknown', undefined],
      ]),
    )
    expect(await refusal(first)).toBe('ECONNREFUSED')
    expect(await served(second)).toBe(200)
  })
})

describe('a port that is taken', () => {
  it('is told once, holds no other check back, and is served once it is free', async () => {
    const { checks, failures } = make({ retryMs: 20 })
    const taken = await occupy()
    const free = await freePort()
    const want = desired({ 'shop/web': [taken.port, 1], 'shop/other': [free, 1] })
    checks.update(want)
    expect(await served(free)).toBe(200)
    await until(() => failures.length > 0)
    checks.update(want)
    checks.update(want)
    await taken.free()
    expect(await served(taken.port)).toBe(200)
    expect(failures).toEqual([
      `shop/web ${taken.port}: cannot listen on 127.0.0.1:${taken.port}: another program has this port; it is tried again every 0.02 s`,
    ])
  })

  it('is tried at once at an update', async () => {
    const { checks, failures } = make()
    const taken = await occupy()
    const want = desired({ 'shop/web': [taken.port, 1] })
    checks.update(want)
    await until(() => failures.length > 0)
    await taken.free()
    checks.update(want)
    expect(await served(taken.port)).toBe(200)
  })

  it('by another Service stays with it; who waits is told once and comes next', async () => {
    const { checks, failures } = make()
    const port = await freePort()
    const both = desired({ 'shop/first': [port, 1], 'shop/second': [port, 0] })
    checks.update(both)
    checks.update(both)
    expect(await served(port)).toBe(200)
    expect(failures).toEqual([`shop/second ${port}: the health check of Service shop/first has port ${port}`])
    checks.change(new Map([['shop/first', undefined]]))
    expect(await served(port)).toBe(503)
    expect(JSON.parse((await ask(port, '/')).body).service.name).toBe('second')
    expect(failures).toHaveLength(1)
  })
})

describe('addresses', () => {
  it('of each family have checks of their own', async () => {
    const four = make({ addresses: [ip('0.0.0.0')] })
    const six = make({ addresses: [ip('::')] })
    const port = await freePort('0.0.0.0')
    four.checks.update(desired({ 'shop/web': [port, 1] }))
    six.checks.update(desired({ 'shop/web': [port, 0] }))
    expect(await served(port)).toBe(200)
    expect(await served(port, '::1')).toBe(503)
    expect([...four.failures, ...six.failures]).toEqual([])
  })

  it('are followed when they come and go; one that cannot be had holds no other back', async () => {
    const { checks, failures, state } = make({ addresses: [ip('192.0.2.1'), ip('127.0.0.1')] })
    const port = await freePort()
    const want = desired({ 'shop/web': [port, 1] })
    checks.update(want)
    expect(await served(port)).toBe(200)
    await until(() => failures.length > 0)
    expect(failures[0]).toContain('this machine has no such address')
    state.addresses = [ip('127.0.0.2')]
    checks.update(want)
    expect(await served(port, '127.0.0.2')).toBe(200)
    expect(await refusal(port)).toBe('ECONNREFUSED')
  })
})

it('gives everything up when closed', async () => {
  const { checks } = make()
  const ports = [await freePort(), await freePort(), await freePort()]
  checks.update(new Map(ports.map((port, index) => [`shop/web-${index}`, { port, localEndpoints: 1 }])))
  for (const port of ports) await served(port)
  await checks.close()
  for (const port of ports) expect(await refusal(port)).toBe('ECONNREFUSED')
})
