// The demo: `node main.ts [--mode MODE] [--keep] [--traced REASON]`. Status 0 only if everything shown is as it should be.
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { parseArgs, promisify } from 'node:util'
import { findMeans } from '../support/netns/sandbox.ts'
import type { Cluster } from './cluster.ts'
import { kubeconfig, logOf, RealCluster } from './real.ts'
import { scenes } from './scenes.ts'
import { formatRow, header, rule } from './table.ts'
import { TracedCluster } from './traced.ts'

const usage = `usage: hack/demo [--mode iptables|nftables|ipvs] [--keep] [--traced]
  --mode MODE   the backend to show (default iptables)
  --keep        leave the cluster up at the end, and say how to look inside
  --traced      trace packets through the compiled rules instead of sending them`

const say = (line: string): void => console.log(line)

async function show(cluster: Cluster): Promise<boolean> {
  let good = true
  say('')
  say(header)
  for (const scene of scenes) {
    for (const row of await scene(cluster)) {
      say(formatRow(row))
      good &&= row.verdict !== 'FAIL'
    }
  }
  say(rule)
  return good
}

async function explainKept(cluster: RealCluster): Promise<void> {
  const pid = await cluster.sandbox.pid()
  const user = process.getuid?.() === 0 ? '' : ' --user --preserve-credentials'
  const inside = `nsenter --target ${pid}${user} --mount --pid`
  const at = (name: string): string => `${inside} --net=/proc/${pid}/root/run/netns/${name}`
  say(`
The cluster stays up until Ctrl-C. To look inside:
  a shell on node-a   ${at('node-a')} bash
  its rules           ${at('node-a')} iptables-save
  its log             ${inside} tail -f ${logOf('node-a')}
  namespaces          ${inside} ip netns list
  a request           ${at('client')} curl http://203.0.113.20/
  the API             ${at('control')} kubectl --kubeconfig ${kubeconfig} get services -A`)
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      mode: { type: 'string', default: 'iptables' },
      keep: { type: 'boolean', default: false },
      traced: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) {
    say(usage)
    return 0
  }
  if (values.mode === 'ipvs' && !values.traced && !(await hasIPVS())) {
    say(
      'This kernel has no IPVS, which --mode ipvs needs: load its module (modprobe ip_vs) or, where there is none, see it at' +
        ' work on a kernel that has one with npm run test:vm-scenarios; --traced shows the same packets through the rules.',
    )
    return 1
  }
  const began = performance.now()
  const means = values.traced ? ({ kind: 'none', reason: 'tracing was asked for' } as const) : await findMeans()
  let cluster: Cluster | undefined
  let real: RealCluster | undefined
  let isInterrupted = false
  const interrupted = Promise.withResolvers<never>()
  // Ends an await wherever it stands; what was begun is then cleaned up below.
  interrupted.promise.catch(() => undefined)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      isInterrupted = true
      interrupted.reject(new Interrupted(signal))
    })
  }
  // Whoever reads the table has seen enough of it.
  process.stdout.on('error', () => interrupted.reject(new Interrupted('nobody reads any more')))
  const orInterrupted = <T>(work: Promise<T>): Promise<T> => Promise.race([work, interrupted.promise])
  let opening: Promise<Cluster> | undefined
  try {
    if (means.kind === 'none') {
      say(
        `No network namespaces can be made here (${means.reason}): packets are traced through the compiled rules instead.`,
      )
      opening = TracedCluster.open(values.mode)
    } else {
      say(`A small cluster in namespaces of its own${means.kind === 'user' ? ', inside a user namespace' : ''}:`)
      opening = RealCluster.open({
        means,
        mode: values.mode,
        say: line => {
          if (!isInterrupted) say(`  ${line}`)
        },
      })
    }
    cluster = await orInterrupted(opening)
    if (cluster instanceof RealCluster) real = cluster
    const good = await orInterrupted(show(cluster))
    const dead = (await real?.deadDaemons()) ?? []
    for (const words of dead) say(words)
    const seconds = ((performance.now() - began) / 1000).toFixed(0)
    const fine = good && dead.length === 0
    say(
      fine
        ? `All as it should be, in ${seconds} s.`
        : `Not everything is as it should be; see FAIL above. ${seconds} s.`,
    )
    if (values.keep && real !== undefined) {
      await explainKept(real)
      await interrupted.promise.catch(() => undefined)
    }
    return fine ? 0 : 1
  } catch (error) {
    if (!(error instanceof Interrupted)) {
      for (const words of (await real?.deadDaemons().catch(() => [])) ?? []) say(words)
      throw error
    }
    say(`\n${error.message}: everything is taken down.`)
    return 130
  } finally {
    // A cluster that is still being built ends itself on failure; one that is up is closed here.
    const built = cluster ?? (await opening?.catch(() => undefined))
    await built?.close()
  }
}

class Interrupted extends Error {}

/** Asking ipvsadm loads the module, where there is one and we may. */
async function hasIPVS(): Promise<boolean> {
  await promisify(execFile)('ipvsadm', ['-Ln']).catch(() => undefined)
  return existsSync('/proc/net/ip_vs')
}

main().then(
  status => process.exit(status),
  (error: unknown) => {
    process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exit(1)
  },
)
