// The metrics server's paths over a real socket.
import { afterEach, describe, expect, it } from 'vitest'
import { HttpListener } from '../../src/health/listener.ts'
import { type Exposition, type MetricsServerOptions, metricsHandler } from '../../src/observe/http.ts'
import { version } from '../../src/version.ts'
import { ask, ip } from '../health/client.ts'

const open: HttpListener[] = []
afterEach(async () => {
  await Promise.all(open.splice(0).map(listener => listener.close()))
})

const expositionType = 'text/plain; version=0.0.4; charset=utf-8'

const usual: MetricsServerOptions = {
  metrics: async () => ({ contentType: expositionType, body: 'up 1\n' }),
  slis: async () => ({ contentType: expositionType, body: 'kubernetes_healthcheck 1\n' }),
  mode: () => 'nftables',
  configz: () => ({ kind: 'KubeProxyConfiguration', mode: 'nftables' }),
  flags: () => ({ v: '2', 'config-sync-period': '15m0s' }),
  status: async () => ({ mode: 'nftables' }),
  service: async (namespace, name) => (name === 'web' ? { namespace, name, ports: [] } : undefined),
  date: () => Date.UTC(2026, 0, 2, 5, 6, 7),
  startedAt: Date.UTC(2026, 0, 1),
}

async function serve(options: Partial<MetricsServerOptions> = {}) {
  const errors: unknown[] = []
  const listener = new HttpListener({
    binding: { address: ip('127.0.0.1'), port: 0 },
    handle: metricsHandler({ ...usual, ...options }),
    onListenFailure: () => undefined,
    onError: error => errors.push(error),
  })
  open.push(listener)
  await listener.start()
  return { port: listener.listeningAt?.port ?? 0, errors }
}

describe('the metrics server', () => {
  it.each([
    ['/metrics', expositionType, 'up 1\n'],
    ['/metrics?x=1', expositionType, 'up 1\n'],
    ['/metrics/slis', expositionType, 'kubernetes_healthcheck 1\n'],
    ['/healthz', 'text/plain; charset=utf-8', 'ok'],
    ['/healthz/ping', 'text/plain; charset=utf-8', 'ok'],
    ['/proxyMode', 'text/plain; charset=utf-8', 'nftables'],
  ])('answers %s', async (path, contentType, body) => {
    const { port } = await serve()
    const reply = await ask(port, path)
    expect([reply.status, reply.headers['content-type'], reply.body]).toEqual([200, contentType, body])
    const head = await ask(port, path, { method: 'HEAD' })
    expect([head.status, head.headers['content-length'], head.body]).toEqual([200, String(body.length), ''])
  })

  it('shows the configuration, the status and one Service as JSON', async () => {
    const { port } = await serve()
    const json = async (path: string) => JSON.parse((await ask(port, path)).body)
    expect(await json('/configz')).toEqual({
      'kubeproxy.config.k8s.io': { kind: 'KubeProxyConfiguration', mode: 'nftables' },
    })
    expect(await json('/debug/status')).toEqual({ mode: 'nftables' })
    expect(await json('/debug/services/shop/web')).toEqual({ namespace: 'shop', name: 'web', ports: [] })
    expect((await ask(port, '/debug/services/shop/web')).headers['content-type']).toBe('application/json')
    expect(await ask(port, '/debug/services/shop/other')).toMatchObject({
      status: 404,
      body: 'this node knows of no Service shop/other with a cluster address\n',
    })
  })

  it('shows flags, version and age', async () => {
    const { port } = await serve()
    expect((await ask(port, '/flagz')).body).toMatch(/^kube-penstock flagz\n.+\n\nconfig-sync-period=15m0s\nv=2\n$/)
    const { body } = await ask(port, '/statusz')
    expect(body).toContain(`Binary version: ${version}\n`)
    expect(body).toContain('Up: 29 hr 06 min 07 sec\n')
    expect(body).toContain('Started: Thu, 01 Jan 2026 00:00:00 GMT\n')
  })

  it('lists at /debug what there is, and all of it is there', async () => {
    const { port } = await serve()
    const { body } = await ask(port, '/debug/')
    expect((await ask(port, '/debug')).body).toBe(body)
    const paths = body.split('\n').flatMap(line => /^\/\S+/.exec(line)?.[0] ?? [])
    expect(paths).toContain('/debug/services/NAMESPACE/NAME')
    expect(paths).toContain('/metrics')
    for (const path of paths) {
      expect((await ask(port, path.replace('NAMESPACE/NAME', 'shop/web'))).status).toBe(200)
    }
  })

  it('has nothing else, no profiling least of all', async () => {
    const { port } = await serve()
    const others = [
      '/',
      '/livez',
      '/metrics/',
      '/debug/pprof/',
      '/debug/flags/v',
      '/debug/services/shop',
      '/debug/services/a/b/c',
    ]
    for (const path of others) expect((await ask(port, path)).status).toBe(404)
  })

  it('only reads', async () => {
    const { port } = await serve()
    for (const path of ['/metrics', '/proxyMode', '/debug/services/shop/web']) {
      const reply = await ask(port, path, { method: 'PUT', body: 'x' })
      expect([reply.status, reply.headers.allow, reply.body]).toEqual([
        405,
        'GET, HEAD',
        'PUT is not served here; GET is\n',
      ])
    }
    expect((await ask(port, '/nothing', { method: 'POST' })).status).toBe(404)
  })

  it('makes one text for all who ask at the same time, and a new one after that', async () => {
    const texts: PromiseWithResolvers<Exposition>[] = []
    const handle = metricsHandler({
      ...usual,
      metrics: () => {
        const text = Promise.withResolvers<Exposition>()
        texts.push(text)
        return text.promise
      },
    })
    const scrape = () => handle({ method: 'GET', path: '/metrics' })
    const asked = [scrape(), scrape(), scrape()]
    expect(texts).toHaveLength(1)
    texts[0]?.resolve({ contentType: expositionType, body: 'a 1\n' })
    for (const answer of await Promise.all(asked)) expect(answer.body).toBe('a 1\n')
    const next = scrape()
    expect(texts).toHaveLength(2)
    texts[1]?.resolve({ contentType: expositionType, body: 'b 1\n' })
    expect((await next).body).toBe('b 1\n')
  })

  it('says 500 when the metrics cannot be made, and tries again at the next scrape', async () => {
    let fails = true
    const { port, errors } = await serve({
      metrics: async () => {
        if (fails) throw new Error('no metrics')
        return { contentType: expositionType, body: 'up 1\n' }
      },
    })
    expect((await ask(port, '/metrics')).status).toBe(500)
    expect(errors).toEqual([new Error('no metrics')])
    fails = false
    expect((await ask(port, '/metrics')).status).toBe(200)
  })
})
