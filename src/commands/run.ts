// `penstock run`: the daemon. With --once, one full sync.
import { setTimeout as sleep } from 'node:timers/promises'
import { type Backend, CommitError } from '../backend/backend.ts'
import { backends } from '../backend/registry.ts'
import type { Configuration } from '../config/types.ts'
import { beLiberal, isLiberal } from '../kernel/conntrack.ts'
import { hostAddresses, kernelRelease } from '../kernel/host.ts'
import { ensureSysctl } from '../kernel/sysctl.ts'
import type { Family } from '../net/ip.ts'
import type { Logger } from '../observe/log.ts'
import { Once } from '../observe/log.ts'
import type { SyncObserver } from '../sync/contract.ts'
import { version } from '../version.ts'
import { type Assembly, assemble, describeFailure, type FamilyAssembly, ipvsSettings, isNeedless } from './assembly.ts'
import type { CommandContext } from './context.ts'
import { loadOnce, nodeNameOf, openSource } from './input.ts'
import { machineFamilies } from './program.ts'

export async function run(context: CommandContext): Promise<number> {
  const { commandLine, configuration, exec, log, notices } = context
  for (const notice of notices) log.warn(notice)
  if (commandLine.options.initOnly === true) return prepare(context)
  const given = commandLine.options.nodeAddresses ?? []
  const families = machineFamilies()
  const assembly = assemble({
    configuration,
    nodeName: nodeNameOf(context),
    families,
    exec,
    hostAddresses: given.length > 0 ? given : hostAddresses(),
    givenAddresses: given,
    observer: logging(log),
    conntrackIsLiberal: await isLiberal(),
  })
  log.info({ version, mode: configuration.mode, families, node: nodeNameOf(context) }, 'starting')
  return commandLine.options.once === true ? once(context, assembly) : daemon(context, assembly)
}

/** Privileged settings only, so that the container that runs can do with fewer rights (`kube-proxy.md` §9.2). */
async function prepare(context: CommandContext): Promise<number> {
  const assembly = assemble({
    configuration: context.configuration,
    nodeName: nodeNameOf(context),
    families: machineFamilies(),
    exec: context.exec,
    hostAddresses: [],
    givenAddresses: [],
    observer: logging(context.log),
  })
  const results = await Promise.all(
    assembly.families.map(async family => {
      const ready = await prepareMode(family, context.log)
      return (await settings(family, context.configuration, context.log)) && ready
    }),
  )
  return results.every(Boolean) ? 0 : 1
}

async function once(context: CommandContext, assembly: Assembly): Promise<number> {
  const { signal, log, configuration } = context
  await loadOnce(context, assembly.store)
  assembly.distribute()
  const results = await Promise.all(
    assembly.families.map(async family => {
      await prepareMode(family, log)
      const failure = await syncWithPatience(family, signal)
      if (failure !== undefined) return isNeedless(failure, family.syncer)
      await sweep(family, context)
      const set = await settings(family, configuration, log)
      return set && family.syncer.setAsides.length === 0
    }),
  )
  return results.every(Boolean) ? 0 : 1
}

/** Failures that pass by themselves get a few more tries, as the lock of iptables held by another. */
async function syncWithPatience({ syncer }: FamilyAssembly, signal: AbortSignal): Promise<CommitError | undefined> {
  for (let attempt = 1; ; attempt++) {
    try {
      await syncer.sync(signal)
      return undefined
    } catch (error) {
      if (!(error instanceof CommitError)) throw error
      if (error.kind !== 'transient' || attempt === 5 || signal.aborted) return error
      await sleep(attempt * 500)
    }
  }
}

/** How long the first sync waits for the Node object, whose zone and addresses it needs but can do without. */
const nodePatienceMs = 5_000

async function daemon(context: CommandContext, assembly: Assembly): Promise<number> {
  const { signal, log, configuration } = context
  const { store, families } = assembly
  const { source, close } = openSource(context)
  const ready = Promise.withResolvers<void>()
  const nodeKnown = Promise.withResolvers<void>()
  let scheduled = false
  const stop = new AbortController()
  const ended = AbortSignal.any([signal, stop.signal])

  const feeding = source.start(event => {
    store.apply(event)
    if (event.kind === 'synced' && store.isReady()) ready.resolve()
    if (store.synced('Node') && (configuration.detectLocalMode !== 'NodeCIDR' || store.node() !== undefined)) {
      nodeKnown.resolve()
    }
    if (scheduled) return
    scheduled = true
    // One hand-over for all events of this turn of the loop.
    setImmediate(() => {
      scheduled = false
      assembly.distribute()
    })
  }, ended)
  const syncing = (async () => {
    await untilAborted(ready.promise, ended)
    await Promise.race([untilAborted(nodeKnown.promise, ended), sleep(nodePatienceMs, undefined, { ref: false })])
    assembly.distribute()
    await Promise.all(
      families.map(async family => {
        await prepareMode(family, log)
        void afterFirstSync(family, context)
        await family.syncer.run(ended)
      }),
    )
  })()

  const following = followAddresses(context, assembly)
  try {
    // Each ends only with the signal, or with an error that must not be survived in silence.
    await Promise.race([feeding, syncing])
    if (!signal.aborted) throw new Error('stopped without being asked to')
  } finally {
    clearInterval(following)
    stop.abort()
    await Promise.allSettled([feeding, syncing])
    close()
    for (const { backend } of families) backend.stop?.()
  }
  log.info('stopped; the rules stay')
  return 0
}

const addressesEveryMs = 5_000

/** IPVS mode names the node's addresses one by one; in the others the kernel knows them. */
function followAddresses(
  { commandLine, configuration }: CommandContext,
  assembly: Assembly,
): NodeJS.Timeout | undefined {
  if (configuration.mode !== 'ipvs' || (commandLine.options.nodeAddresses ?? []).length > 0) return undefined
  return setInterval(() => assembly.readdress(hostAddresses()), addressesEveryMs).unref()
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
  // Last: it takes as long as connections live in a mode that was in charge before.
  await sweep(family, context)
}

/**
 * What an earlier run left in another mode or by other tools goes, now that the rules are in. What cannot be removed is
 * said, and holds nothing else back.
 */
async function sweep(assembly: FamilyAssembly, context: CommandContext): Promise<void> {
  const { family, backend } = assembly
  const { exec, signal, log } = context
  const all = [
    await withPatience(assembly, context, async () => {
      const removed = await backend.sweep?.(signal)
      if (removed !== undefined) log.info({ family, removed }, 'swept')
    }),
  ]
  for (const [mode, make] of Object.entries(backends)) {
    if (mode === backend.mode) continue
    const former = make({ family, exec, ipvs: ipvsSettings(context.configuration) })
    all.push(await withPatience(assembly, context, () => retire(family, former, context)))
  }
  if (all.every(Boolean)) log.debug({ family }, 'no other mode is in charge any more')
}

/** Tries again what fails for a reason that passes. Returns false, and says why, where it does not pass. */
async function withPatience(
  { family }: FamilyAssembly,
  { commandLine, signal, log }: CommandContext,
  work: () => Promise<void>,
): Promise<boolean> {
  const attempts = commandLine.options.once === true ? 5 : 50
  for (let attempt = 1; ; attempt++) {
    try {
      await work()
      return true
    } catch (error) {
      const passes = error instanceof CommitError && (error.kind === 'transient' || error.kind === 'stale')
      if (signal.aborted) return false
      if (!passes || attempt === attempts) {
        log.warn({ family, error: describeFailure(error) }, 'what an earlier run left behind cannot be removed')
        return false
      }
      await sleep(Math.min(attempt * 500, 30_000), undefined, { signal, ref: false }).catch(() => undefined)
    }
  }
}

/** A former mode gives way. With --once its connections are left to the next run. */
async function retire(family: Family, former: Backend, context: CommandContext): Promise<void> {
  const { signal, log, commandLine } = context
  if (former.retire === undefined) return former.cleanup(signal)
  for (let look = 1; ; look++) {
    const wait = await former.retire(signal)
    if (wait === undefined) return
    if (look === 1) {
      log.info(
        { family, mode: former.mode },
        'connections still live in the mode that was in charge before; it stays until they end',
      )
    }
    if (commandLine.options.once === true) return
    await sleep(wait, undefined, { signal, ref: false }).catch(() => undefined)
    if (signal.aborted) return
  }
}

/** Makes the machine ready for the mode. What cannot be done is said and stops nothing else. */
async function prepareMode({ family, backend }: FamilyAssembly, log: Logger): Promise<boolean> {
  const complaints = (await backend.prepare?.({ release: kernelRelease(), set: ensureSysctl })) ?? []
  for (const complaint of complaints) log.warn({ family, mode: backend.mode }, complaint)
  return complaints.length === 0
}

/** Kernel settings that the rules rely on. One that cannot be set is said once and stops nothing else. */
async function settings({ network }: FamilyAssembly, configuration: Configuration, log: Logger): Promise<boolean> {
  const wanted: [set: () => Promise<void>, without: string][] = []
  if (network().localhostNodePorts) {
    // Lets packets to 127.0.0.1:nodePort leave for a pod (§3.4).
    const set = () => ensureSysctl('net.ipv4.conf.all.route_localnet', '1')
    wanted.push([set, 'node ports will not answer on 127.0.0.1'])
  }
  if (configuration.conntrack.tcpBeLiberal && network().family === 'IPv4') {
    wanted.push([beLiberal, 'packets outside the TCP window stay INVALID, and pass without being translated'])
  }
  let done = true
  for (const [set, without] of wanted) {
    await set().catch((error: Error) => {
      log.warn({ error: error.message }, without)
      done = false
    })
  }
  return done
}

/** One line a sync that did something; each problem once. */
function logging(log: Logger): SyncObserver {
  const said = new Once()
  return {
    synced: report => {
      const wrote = report.added + report.changed + report.removed > 0
      const fields = { ...report, durationMs: Math.round(report.durationMs) }
      if (wrote) log.info(fields, 'synced')
      else log.debug(fields, 'nothing to write')
      said.forget(`failed ${report.family}`)
    },
    failed: (family, error, failures) => {
      const text = describeFailure(error)
      if (said.first(`failed ${family}`, text))
        log.error({ family, failures, error: text }, 'sync failed; it will be tried again')
    },
    setAside: item => {
      if (said.first(`aside ${item.family} ${item.servicePort}`, item.reason)) {
        log.error({ ...item }, 'the kernel refuses a Service port; it keeps its former rules, all others go on')
      }
    },
    drift: family => log.warn({ family }, 'somebody removed rules of ours; they are put back'),
    degraded: (family, lost) => log.error({ family }, lost),
    conflict: item => {
      if (said.first(`conflict ${item.family} ${item.service} ${item.frontend}`, item.holder)) {
        log.warn({ ...item }, 'address is held by an older Service')
      }
    },
  }
}
