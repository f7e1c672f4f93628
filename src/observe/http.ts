// What the metrics server answers, path by path (`kube-proxy.md` §10.1). It only reads; there are no profiling endpoints.
import { type HttpAnswer, type HttpHandler, type HttpRequest, jsonAnswer, notFound, textAnswer } from '../net/http.ts'
import { version } from '../version.ts'

/** A text made for a scrape, and its content type. */
export interface Exposition {
  readonly contentType: string
  readonly body: string
}

/** Where the answers come from. Each is asked when a client asks, never before. */
export interface MetricsServerOptions {
  readonly metrics: () => Promise<Exposition>
  readonly slis: () => Promise<Exposition>
  /** `iptables`, `nftables` or `ipvs`: tools read the mode from /proxyMode. */
  readonly mode: () => string
  /** The effective KubeProxyConfiguration, in the shape of v1alpha1. */
  readonly configz: () => unknown
  /** Flags and their values as they took effect; without secrets, since everyone may read them. */
  readonly flags: () => Readonly<Record<string, string>>
  /** What `penstock status` prints, as a value for JSON or a promise of one. */
  readonly status: () => unknown
  /** The compiled state of one Service, likewise; undefined if there is no such Service. */
  readonly service: (namespace: string, name: string) => unknown
  /** Milliseconds since the epoch: now, and when the program started. */
  readonly date: () => number
  readonly startedAt: number
}

interface Route {
  readonly answer: () => HttpAnswer | Promise<HttpAnswer>
  /** For the index. */
  readonly shows: string
}

/** Answers GET and HEAD on the paths of `/debug/`'s index. */
export function metricsHandler(options: MetricsServerOptions): HttpHandler {
  const routes = routesOf(options)
  return request => {
    const find = routes.get(request.path)?.answer ?? serviceRoute(request, options)
    if (find === undefined) return notFound()
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return textAnswer(405, `${request.method} is not served here; GET is\n`, { Allow: 'GET, HEAD' })
    }
    return find()
  }
}

function routesOf(options: MetricsServerOptions): ReadonlyMap<string, Route> {
  const { mode, configz, flags, status } = options
  const ok = () => textAnswer(200, 'ok')
  const index = (): HttpAnswer => textAnswer(200, indexOf(routes))
  const routes: ReadonlyMap<string, Route> = new Map<string, Route>([
    ['/metrics', { answer: shared(options.metrics), shows: 'metrics for Prometheus' }],
    ['/metrics/slis', { answer: shared(options.slis), shows: 'the health checks, as metrics' }],
    ['/healthz', { answer: ok, shows: 'ok while this server answers; health is served at healthzBindAddress' }],
    ['/healthz/ping', { answer: ok, shows: 'the same' }],
    ['/proxyMode', { answer: () => textAnswer(200, mode()), shows: 'iptables, nftables or ipvs' }],
    [
      '/configz',
      {
        answer: () => jsonAnswer(200, { 'kubeproxy.config.k8s.io': configz() }),
        shows: 'the effective KubeProxyConfiguration, as JSON',
      },
    ],
    ['/flagz', { answer: () => textAnswer(200, flagz(flags())), shows: 'the flags' }],
    ['/statusz', { answer: () => textAnswer(200, statusz(options, routes)), shows: 'version and age' }],
    ['/debug', { answer: index, shows: 'this list' }],
    ['/debug/', { answer: index, shows: 'this list' }],
    [
      '/debug/status',
      { answer: async () => pretty(200, await status()), shows: 'what `penstock status` prints, as JSON' },
    ],
  ])
  return routes
}

const pretty = (code: number, value: unknown): HttpAnswer => jsonAnswer(code, value, { indent: '  ' })

/** One scrape at a time, its text shared by all who ask meanwhile: a crowd costs no more than one. */
function shared(make: () => Promise<Exposition>): () => Promise<HttpAnswer> {
  let running: Promise<HttpAnswer> | undefined
  return () => {
    running ??= make()
      .then(({ contentType, body }) => ({ status: 200, headers: { 'Content-Type': contentType }, body }))
      .finally(() => {
        running = undefined
      })
    return running
  }
}

/** `/debug/services/NAMESPACE/NAME`; undefined for any other path. */
function serviceRoute(
  { path }: HttpRequest,
  { service }: MetricsServerOptions,
): (() => HttpAnswer | Promise<HttpAnswer>) | undefined {
  const [, namespace, name] = /^\/debug\/services\/([^/]+)\/([^/]+)$/.exec(path) ?? []
  if (namespace === undefined || name === undefined) return undefined
  return async () => {
    const found = await service(namespace, name)
    if (found !== undefined) return pretty(200, found)
    return textAnswer(404, `this node knows of no Service ${namespace}/${name} with a cluster address\n`)
  }
}

const indexOf = (routes: ReadonlyMap<string, Route>): string =>
  [
    ...[...routes].filter(([path]) => path !== '/debug').map(([path, { shows }]) => [path, shows]),
    ['/debug/services/NAMESPACE/NAME', 'the compiled state of one Service, as JSON'],
  ]
    .map(([path = '', shows]) => `${path.padEnd(32)}${shows}\n`)
    .join('')

/** Kubernetes' words for pages of this kind (KEP-4827, KEP-4828). */
const warning =
  'Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.'

const flagz = (flags: Readonly<Record<string, string>>): string => {
  const lines = Object.entries(flags).map(([name, value]) => `${name}=${value}\n`)
  return `kube-penstock flagz\n${warning}\n\n${lines.sort().join('')}`
}

function statusz({ date, startedAt }: MetricsServerOptions, routes: ReadonlyMap<string, Route>): string {
  const seconds = Math.max(0, Math.floor((date() - startedAt) / 1000))
  const two = (count: number) => String(count).padStart(2, '0')
  const up = `${Math.floor(seconds / 3600)} hr ${two(Math.floor(seconds / 60) % 60)} min ${two(seconds % 60)} sec`
  const lines = [
    `Started: ${new Date(startedAt).toUTCString()}`,
    `Up: ${up}`,
    `Binary version: ${version}`,
    `Paths: ${[...routes.keys()].join(' ')}`,
  ]
  return `kube-penstock statusz\n${warning}\n\n${lines.join('\n')}\n`
}
