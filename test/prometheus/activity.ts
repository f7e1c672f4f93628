// A daemon's metrics with something happening at every scrape, served as the daemon serves them.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Family } from '../../src/net/ip.ts'
import { type Metrics, makeMetrics, type Readings } from '../../src/observe/metrics.ts'

export type Mode = 'iptables' | 'nftables' | 'ipvs'

const families: readonly Family[] = ['IPv4', 'IPv6']

function readings(now: number): Readings {
  const family = { dirtyServices: 1, kernelObjects: 250, setAside: 1, noLocalEndpoints: { internal: 1, external: 2 } }
  const watch = { lastEventAt: now - 5_000, watches: 3, gapMs: 20, errors: { timeout: 1 } }
  return {
    services: 12,
    endpoints: 40,
    undecodable: 1,
    families: { IPv4: family, IPv6: family },
    watches: { Service: watch, EndpointSlice: watch, Node: watch },
    conntrack: { entries: 1_000, limit: 262_144 },
  }
}

/** One of everything that a daemon tells of. */
function happen(metrics: Metrics): void {
  for (const family of families) {
    metrics.queued(family)
    metrics.synced({ family, durationMs: 12, added: 3, changed: 1, removed: 0, compared: false })
    metrics.programmed(family, [Date.now() - 400], Date.now())
    metrics.failed(family, 'transient', { durationMs: 3, compared: false })
    metrics.drifted(family)
    metrics.flowsDeleted(family, 2, 1)
  }
  metrics.changed('Service')
  metrics.changed('EndpointSlice', 3)
  metrics.probed('healthz', 200)
  metrics.probed('livez', 200)
  for (const method of ['GET', 'POST'])
    metrics.requested({ method, host: '192.0.2.1:6443', status: 200, durationMs: 4 })
}

export interface Scraped {
  /** `127.0.0.1:PORT`. */
  readonly address: string
  close(): Promise<void>
}

/** Serves the metrics of one node in a mode on a free port of loopback. */
export async function serveActivity(mode: Mode): Promise<Scraped> {
  const metrics = makeMetrics({ mode, families, read: () => readings(Date.now()) })
  const server = createServer((_, response) => {
    happen(metrics)
    metrics.scrape().then(
      ({ contentType, body }) => response.writeHead(200, { 'Content-Type': contentType }).end(body),
      (error: Error) => response.writeHead(500).end(error.message),
    )
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    address: `127.0.0.1:${port}`,
    async close() {
      metrics.stop()
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}
