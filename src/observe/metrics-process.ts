// What the process itself costs, under the names that Prometheus clients of every language use, and how late its event loop
// runs. prom-client's own collectors are not used: they time the loop every 10 ms and watch each garbage collection.
import { readdirSync, readFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { type Registry, Summary } from 'prom-client'
import type { MetricMaker } from './metrics-make.ts'

/** Makes `process_*` and `nodejs_*`; what it returns reads them anew. */
export function processMetrics(make: MetricMaker): () => void {
  const cpu = make.counter('process_cpu_seconds_total', 'Total user and system CPU time spent in seconds.')
  const resident = make.gauge('process_resident_memory_bytes', 'Resident memory size in bytes.')
  const virtual = make.gauge('process_virtual_memory_bytes', 'Virtual memory size in bytes.')
  const start = make.gauge('process_start_time_seconds', 'Start time of the process since unix epoch in seconds.')
  const open = make.gauge('process_open_fds', 'Number of open file descriptors.')
  const limit = make.gauge('process_max_fds', 'Maximum number of open file descriptors.')
  const heap = make.gauge('nodejs_heap_size_used_bytes', 'Process heap size used from Node.js in bytes.')
  const heapTotal = make.gauge('nodejs_heap_size_total_bytes', 'Process heap size from Node.js in bytes.')
  const external = make.gauge('nodejs_external_memory_bytes', 'Node.js external memory size in bytes.')
  start.set(Math.round(performance.timeOrigin) / 1000)
  let cpuBefore = 0
  return () => {
    const { user, system } = process.cpuUsage()
    const seconds = (user + system) / 1e6
    cpu.inc(Math.max(0, seconds - cpuBefore))
    cpuBefore = Math.max(seconds, cpuBefore)
    const memory = process.memoryUsage()
    resident.set(memory.rss)
    heap.set(memory.heapUsed)
    heapTotal.set(memory.heapTotal)
    external.set(memory.external)
    const known = ownProc()
    if (known === undefined) return
    virtual.set(known.virtualBytes)
    open.set(known.openFiles)
    limit.set(known.mostFiles)
  }
}

/** What Node cannot tell of its own process; undefined where there is no /proc. */
function ownProc(): { virtualBytes: number; openFiles: number; mostFiles: number } | undefined {
  try {
    const virtual = /^VmSize:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))
    const most = /^Max open files\s+(\d+|unlimited)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]
    return {
      virtualBytes: Number(virtual?.[1] ?? 0) * 1024,
      // The listing itself is one.
      openFiles: readdirSync('/proc/self/fd').length - 1,
      mostFiles: most === 'unlimited' ? Number.POSITIVE_INFINITY : Number(most ?? 0),
    }
  } catch {
    return undefined
  }
}

/**
 * Time between two looks at the event loop. Each look wakes the process: every 20 ms costs an idle node 0.22 % of a CPU,
 * every 100 ms 0.05 %, every 500 ms 0.014 %, measured on Node 24. A stall of 200 ms or more is always seen.
 */
const lookEveryMs = 200
/** The quantiles are those of the last minute at least. */
const windowMs = 60_000

/** Quantiles of the event loop's delay, as a metric that measures from the moment it is made until `stop`. */
export class LoopDelay extends Summary<'quantile'> {
  readonly #histogram = monitorEventLoopDelay({ resolution: lookEveryMs })
  #since = performance.now()

  constructor(registry: Registry) {
    super({
      name: 'penstock_event_loop_delay_seconds',
      help: 'How late the event loop ran what was due: quantiles of the last minute or more; 1 is the longest delay.',
      registers: [registry],
    })
    this.#histogram.enable()
  }

  override get(): ReturnType<Summary<'quantile'>['get']> {
    return super.get().then(metric => ({ ...metric, values: this.#quantiles() }))
  }

  stop(): void {
    this.#histogram.disable()
  }

  #quantiles() {
    if (this.#histogram.count === 0) return []
    const values = [0.5, 0.9, 0.99, 1].map(quantile => ({
      labels: { quantile },
      value: lateness(this.#histogram.percentile(quantile * 100)),
    }))
    if (performance.now() - this.#since >= windowMs) {
      this.#histogram.reset()
      this.#since = performance.now()
    }
    return values
  }
}

/** Seconds late, from nanoseconds between two looks. */
const lateness = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e9 - lookEveryMs / 1000)
