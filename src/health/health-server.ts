// The proxy's own health over HTTP: /healthz for load balancers, /livez for the kubelet (`kube-proxy.md` §8.1).
import { type HttpHandler, jsonAnswer, notFound } from '../net/http.ts'
import type { ProxyHealth, Verdict } from './proxy-health.ts'

export type HealthEndpoint = 'healthz' | 'livez'

export interface HealthHandlerOptions {
  readonly health: Pick<ProxyHealth, 'ready' | 'live'>
  /** Told of every answer, to be counted (`kubeproxy_proxy_healthz_total`, `kubeproxy_proxy_livez_total`). */
  readonly onAnswer?: (endpoint: HealthEndpoint, code: 200 | 503) => void
  /** Told when an answer is another than the one before, with what is wrong: worth a line in the log. */
  readonly onChange?: (endpoint: HealthEndpoint, ok: boolean, problems: readonly string[]) => void
}

/** Answers /healthz and /livez, whatever the method, as kube-proxy does; cloud controllers rely on path and code (KEP-3836). */
export function healthHandler({ health, onAnswer, onChange }: HealthHandlerOptions): HttpHandler {
  const before = new Map<HealthEndpoint, boolean>()
  const answer = (endpoint: HealthEndpoint, { ok, report }: Verdict) => {
    const code = ok ? 200 : 503
    onAnswer?.(endpoint, code)
    if (before.get(endpoint) !== ok) onChange?.(endpoint, ok, report.problems)
    before.set(endpoint, ok)
    return jsonAnswer(code, report)
  }
  return ({ path }) => {
    switch (path) {
      case '/healthz':
        return answer('healthz', health.ready())
      case '/livez':
        return answer('livez', health.live())
      default:
        return notFound()
    }
  }
}
