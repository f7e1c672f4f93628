// The daemon: keeps this node's rules equal to the cluster, under one configuration after another.
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { load } from '../config/load.ts'
import { ProxyHealth } from '../health/proxy-health.ts'
import { followAddresses, hostAddresses } from '../kernel/addresses.ts'
import { isLiberal } from '../kernel/conntrack.ts'
import { useSmallPages } from '../kernel/memory.ts'
import { watchTables } from '../kernel/netlink/table-watch.ts'
import { setOomScore } from '../kernel/oom.ts'
import type { Family } from '../net/ip.ts'
import { levelOf } from '../observe/log.ts'
import { version } from '../version.ts'
import { assemble, type FamilyAssembly, ipvsSettings } from './assembly.ts'
import type { CommandContext } from './context.ts'
import { followFlows } from './flows.ts'
import { sweep, takeOverFromKubeProxy } from './give-way.ts'
import { nodeNameOf, openSource } from './input.ts'
import { closeLocalnet } from './localnet.ts'
import { machineFamilies } from './program.ts'
import { ServiceChecks } from './service-checks.ts'
import { prepareMode, settings } from './settings.ts'
import { Telemetry } from './telemetry.ts'

/** How long a change may wait to be programmed, in sync periods, until the node counts as unhealthy (§8.1). */
const healthPeriods = 2

/** Runs until the signal. A changed configuration file is taken over in place, where kube-proxy exits. */
export async function serve(context: CommandContext): Promise<number> {
  const startedAt = Date.now()
  const { signal, log } = context
  await useSmallPages()
  const families = machineFamilies()
  const health = new ProxyHealth({
    families,
    timeoutMs: healthPeriods * context.configuration.syncPeriod,
    now: () => performance.now(),
    date: Date.now,
  })
  const checks = new ServiceChecks(() => health.isHealthy())
  let current = context
  let former: CommandContext | undefined
  /** Configurations that turned out not to work, as text. */
  const refused = new Set<string>()
  while (!signal.aborted) {
    const fresh = new AbortController()
    const under = current
    const { configuration } = under
    log.level = levelOf(configuration.logging.verbosity)
    await setOomScore(configuration.oomScoreAdj).catch((error: Error) =>
      log.debug({ error: error.message }, 'left as it is'),
    )
    health.restarted(healthPeriods * configuration.syncPeriod)
    const telemetry = new Telemetry({
      context: under,
      nodeName: nodeNameOf(under),
      families,
      health,
      checks,
      startedAt,
    })
    const watching = watchConfiguration(under, refused, changed => {
      // A look that was under way when this configuration ended.
      if (fresh.signal.aborted) return
      log.info('the configuration file has changed; it is taken over now')
      former = under
      current = changed
      fresh.abort()
    })
    try {
      log.info({ version, mode: configuration.mode, families, node: nodeNameOf(under) }, 'starting')
      const bounded = { ...under, signal: AbortSignal.any([signal, fresh.signal]) }
      await underOneConfiguration(bounded, families, telemetry, () => {
        // What fails from now on is not the configuration's fault.
        former = undefined
      })
    } catch (error) {
      // One that the program was started with ends it; a later one gives way to the one before.
      if (former === undefined || fresh.signal.aborted) throw error
      log.error({ error: String(error) }, 'the changed configuration does not work; the one before is in force again')
      refused.add(JSON.stringify(under.configuration))
      current = former
      former = undefined
    } finally {
      fresh.abort()
      clearInterval(watching)
      await telemetry.close()
    }
  }
  await checks.close()
  log.info('stopped; the rules stay')
  return 0
}

/** How long the first sync waits for the Node object, whose zone and addresses it needs but can do without. */
const nodePatienceMs = 5_000

/**
 * Where rules of an earlier run are in force they know the Node's addresses and podCIDRs: made anew without these they would
 * be worse, so that the Node is waited for as long as kube-proxy does (§11.2). A node without any rules needs some soon.
 */
const keptRulesPatienceMs = { node: 30_000, podCIDRs: 300_000 } as const

async function holdsRules(families: readonly FamilyAssembly[], signal: AbortSignal): Promise<boolean> {
  const held = await Promise.all(families.map(({ backend }) => backend.read(signal).catch(() => undefined)))
  return held.some(program => program !== undefined && program.size > 0)
}

/** @param proven called when the kernel holds what this configuration asks for. */
async function underOneConfiguration(
  context: CommandContext,
  speaking: readonly Family[],
  telemetry: Telemetry,
  proven: () => void,
): Promise<void> {
  const { commandLine, configuration, signal, log } = context
  // First: it is what may fail, and nothing is open yet.
  const { source, write, hasNodes, close } = openSource(context, facts => telemetry.metrics.requested(facts))
  // Also told which writers are ours: what others do to our rules is drift.
  const watch = await watchTables(context.exec, reason => log.debug({ reason }, 'changes by others are not told'))
  const exec = watch?.exec ?? context.exec
  const given = commandLine.options.nodeAddresses ?? []
  const flows = followFlows({
    families: speaking,
    exec,
    network: family => assembly.families.find(item => item.family === family)?.network(),
    log,
    metrics: telemetry.metrics,
  })
  const told = telemetry.observer
  const assembly = assemble({
    configuration,
    nodeName: nodeNameOf(context),
    families: speaking,
    exec,
    netlink: context.netlink?.({
      opened: port => watch?.adopt(port),
      missing: reason => log.info({ reason }, 'programs write the rules'),
    }),
    own: commandLine.options.nftablesTableOwner ?? true,
    hostAddresses: given.length > 0 ? given : await hostAddresses(),
    givenAddresses: given,
    observer: {
      ...told,
      resolved: (family, service, ports) => {
        told.resolved?.(family, service, ports)
        flows.observer.resolved(family, service, ports)
      },
      synced: report => {
        told.synced(report)
        flows.observer.synced(report)
      },
    },
    conntrackIsLiberal: await isLiberal(),
  })
  // Rules of IPVS mode, health checks of Services and stale flows of node ports name the node's addresses one by one.
  const following = given.length > 0 ? undefined : await followAddresses(addresses => assembly.readdress(addresses))
  const { store, families } = assembly
  telemetry.attach({ store, families, source, write, hasNodes })
  const ready = Promise.withResolvers<void>()
  const nodeKnown = Promise.withResolvers<void>()
  const stop = new AbortController()
  const ended = AbortSignal.any([signal, stop.signal])
  let scheduled = false
  /** What waits for the API server must not count as rules that are late: a restart would not help. */
  let isWhole = false

  const feeding = source.start(event => {
    telemetry.heard(event)
    store.apply(event)
    if (event.kind === 'Node' || event.kind === 'synced') telemetry.nodeChanged()
    if (event.kind === 'synced' && store.isReady()) ready.resolve()
    if (store.synced('Node') && (configuration.detectLocalMode !== 'NodeCIDR' || store.node() !== undefined)) {
      nodeKnown.resolve()
    }
    if (scheduled) return
    scheduled = true
    // One hand-over for all events of this turn of the loop.
    setImmediate(() => {
      scheduled = false
      if (isWhole) assembly.distribute()
    })
  }, ended)
  const syncing = (async () => {
    await untilAborted(ready.promise, ended)
    const known = untilAborted(nodeKnown.promise, ended).then(() => true)
    const within = (ms: number) => Promise.race([known, sleep(ms, false, { ref: false })])
    if (!(await within(nodePatienceMs)) && hasNodes && (await holdsRules(families, ended))) {
      await within(
        configuration.detectLocalMode === 'NodeCIDR' ? keptRulesPatienceMs.podCIDRs : keptRulesPatienceMs.node,
      )
    }
    isWhole = true
    assembly.distribute()
    const synced = families.map(({ syncer }) => syncer.untilSynced(ended))
    void Promise.race(synced).then(isSynced => isSynced && proven())
    void Promise.race([Promise.all(synced), sleep(startedWithinMs, undefined, { ref: false })]).then(spareMemory)
    await Promise.all(
      families.map(async family => {
        if (family.family === 'IPv4' && !family.network().localhostNodePorts) {
          const complaint = await closeLocalnet(exec, ended)
          if (complaint !== undefined) log.warn({ family: family.family }, complaint)
        }
        await prepareMode(family, log)
        void afterFirstSync(family, { ...context, exec })
        await family.syncer.run(ended)
      }),
    )
  })()
  for (const { syncer } of families) syncer.isWatched = watch?.hearsNft ?? false
  watch?.start(
    families.map(({ backend, syncer }) => ({
      places: () => backend.watched?.() ?? [],
      found: finding => syncer.suspect(finding),
    })),
  )
  try {
    // Each ends only with the signal, or with an error that must not be survived in silence.
    await Promise.race([telemetry.listen().then(() => Promise.race([feeding, syncing])), feeding, syncing])
    if (!signal.aborted) throw new Error('stopped without being asked to')
  } finally {
    stop.abort()
    await Promise.allSettled([feeding, syncing])
    await following?.close()
    await watch?.close()
    close()
    await flows.close()
    for (const { backend } of families) backend.stop?.()
  }
}

/** A family that is not in the kernel by now is no longer starting. */
const startedWithinMs = 60_000

/**
 * From now on memory is worth more than time: V8 collects what the start has left within some 10 s, in steps, and returns it.
 * It does not by itself as long as it believes that somebody waits in front of a screen. With 10,000 Services of 5 endpoints
 * each in iptables mode 177 MB are resident when all is programmed, and 132 MB 15 s later; changes then cost 0.04 ms more.
 * From the beginning on, a start would take a third more CPU.
 */
function spareMemory(): void {
  setFlagsFromString('--optimize-for-size')
}

function untilAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  const aborted = Promise.withResolvers<void>()
  signal.addEventListener('abort', () => aborted.resolve(), { once: true })
  return Promise.race([promise, aborted.promise])
}

/** The protective rules are in the kernel before the settings that they protect from. */
async function afterFirstSync(family: FamilyAssembly, context: CommandContext): Promise<void> {
  if (!(await family.syncer.untilSynced(context.signal))) return
  await settings(family, context.configuration, context.log)
  // Last: these take as long as connections live in what was in charge before.
  await sweep(family, context)
  await takeOverFromKubeProxy(family, context)
}

/** ConfigMaps are replaced as a whole, by a link: what counts is what is in the file, not what happens to it. */
const configurationEveryMs = 5_000
const settleMs = 1_000

/** Looks at the configuration file now and then. One that cannot be used is said once, and the one before stays in force. */
function watchConfiguration(
  context: CommandContext,
  refused: Set<string>,
  changed: (context: CommandContext) => void,
): NodeJS.Timeout | undefined {
  const { commandLine, log } = context
  const path = commandLine.options.config ?? ''
  // Standard input cannot be read twice: a second configuration would have no objects.
  if (path === '' || commandLine.options.manifests?.includes('-') === true) return undefined
  const held = JSON.stringify(context.configuration)
  let seen: string | undefined
  const look = async (): Promise<void> => {
    // A file that is gone for a moment is being replaced.
    const text = await readFile(path, 'utf8').catch(() => seen)
    if (text === undefined || text === seen) return
    // Half a file may be a whole configuration, of defaults: it counts when it has come to rest.
    await sleep(settleMs, undefined, { ref: false })
    if ((await readFile(path, 'utf8').catch(() => undefined)) !== text) return
    seen = text
    try {
      const { configuration, notices } = load(commandLine, () => text)
      const wanted = JSON.stringify(configuration)
      // Whoever goes back, and then tries again, has mended something.
      if (wanted === held) refused.clear()
      if (wanted === held || refused.has(wanted)) return
      ipvsSettings(configuration)
      for (const notice of notices) log.warn(notice)
      changed({ ...context, configuration, notices })
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      log.error({ error: reason }, 'the changed configuration cannot be used; the one before stays in force')
    }
  }
  return setInterval(() => void look(), configurationEveryMs).unref()
}
