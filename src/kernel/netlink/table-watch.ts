// Notices that somebody else writes to the netfilter tables where our rules are: nf_tables tells of it, the legacy tables
// are asked for their size every second. What we write, or programs that we start, is left out.
import type { Family } from '../../net/ip.ts'
import type { Exec } from '../exec.ts'
import { type LegacyTables, openLegacyTables } from './legacy-tables.ts'
import { type Finding, type Listener, type NftEvents, openNftEvents } from './nft-events.ts'

export type { Finding, Listener, Place } from './nft-events.ts'

/** How long after a program's end its notifications are still taken for ours: they wait in the socket by then. */
const ownGraceMs = 2_000
const pollEveryMs = 1_000

export interface TableWatch {
  /** nf_tables tells of each change; without it only the legacy tables are watched. */
  readonly hearsNft: boolean
  /** Runs programs as the given one does; what they write is not told of. */
  readonly exec: Exec
  /** What the netlink socket with this port writes is not told of either, from now on. */
  adopt(port: number): void
  /** Begins to tell. Each finding says that a listener should look for himself, never what there is. */
  start(listeners: readonly Listener[]): void
  close(): Promise<void>
}

/**
 * Opens a watch in this network namespace. Undefined where koffi is missing; `explain` is told in one sentence why that, or
 * nf_tables' part of it, is not there.
 */
export async function watchTables(
  exec: Exec,
  explain: (sentence: string) => void = () => undefined,
): Promise<TableWatch | undefined> {
  const own = new OwnPrograms(exec)
  const legacy = await openLegacyTables()
  const events = await openNftEvents(port => own.has(port), explain)
  return legacy === undefined ? undefined : new Watch(own, legacy, events)
}

class Watch implements TableWatch {
  readonly hearsNft: boolean
  readonly exec: Exec
  readonly #own: OwnPrograms
  readonly #legacy: LegacyTables
  readonly #events: NftEvents | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(own: OwnPrograms, legacy: LegacyTables, events: NftEvents | undefined) {
    this.#legacy = legacy
    this.#events = events
    this.hearsNft = events !== undefined
    this.exec = own
    this.#own = own
  }

  adopt(port: number): void {
    this.#own.adopt(port)
  }

  start(listeners: readonly Listener[]): void {
    this.#events?.start(listeners)
    const shapes = new Shapes(listeners, this.#legacy)
    this.#own.onRestore = (family, begins) => (begins ? shapes.look(family) : shapes.take(family))
    this.#timer = setInterval(() => {
      for (const family of ['IPv4', 'IPv6'] as const) if (!this.#own.restores(family)) shapes.look(family)
    }, pollEveryMs).unref()
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    this.#own.onRestore = undefined
    await this.#events?.close()
    this.#legacy.close()
  }
}

/**
 * Starts programs, and knows them again. A program's first netlink socket has its process id, in its own PID namespace,
 * for a port; that is our namespace, too. (The process id that nf_tables names is the one in the first PID namespace,
 * which a container does not know.) Where a port is taken already the kernel chooses another, and our own write is looked
 * at once for nothing.
 */
export class OwnPrograms implements Exec {
  readonly #exec: Exec
  readonly #ports = new Map<number, number>()
  readonly #restoring = { IPv4: 0, IPv6: 0 }
  /**
   * Told when the first program that writes to the tables of a family is about to run, and when the last one has ended.
   * What others write to legacy tables meanwhile is not noticed before the next regular look: some milliseconds a sync.
   */
  onRestore: ((family: Family, begins: boolean) => void) | undefined

  constructor(exec: Exec) {
    this.#exec = exec
  }

  /** Takes what comes from this port for ours. */
  adopt(port: number): void {
    this.#ports.set(port, (this.#ports.get(port) ?? 0) + 1)
  }

  has(port: number): boolean {
    return this.#ports.has(port)
  }

  restores(family: Family): boolean {
    return this.#restoring[family] > 0
  }

  readonly run: Exec['run'] = async (command, args, options = {}) => {
    let port: number | undefined
    const onStart = (pid: number): void => {
      port = pid
      this.adopt(pid)
      options.onStart?.(pid)
    }
    const family = restoredBy(command)
    if (family !== undefined && this.#restoring[family]++ === 0) this.onRestore?.(family, true)
    try {
      return await this.#exec.run(command, args, { ...options, onStart })
    } finally {
      if (family !== undefined && --this.#restoring[family] === 0) this.onRestore?.(family, false)
      if (port !== undefined) setTimeout(() => this.#release(port ?? 0), ownGraceMs).unref()
    }
  }

  #release(port: number): void {
    const left = (this.#ports.get(port) ?? 0) - 1
    if (left > 0) this.#ports.set(port, left)
    else this.#ports.delete(port)
  }
}

/** The family whose tables a program writes to, if it is one that does. */
function restoredBy(command: string): Family | undefined {
  const [, six] = /^ip(6?)tables(?:-legacy)?-restore$/.exec(command) ?? []
  return six === undefined ? undefined : six === '6' ? 'IPv6' : 'IPv4'
}

/** The shapes of the legacy tables that matter, as last seen. */
class Shapes {
  readonly #listeners: readonly Listener[]
  readonly #legacy: LegacyTables
  readonly #seen = new Map<string, string>()

  constructor(listeners: readonly Listener[], legacy: LegacyTables) {
    this.#listeners = listeners
    this.#legacy = legacy
  }

  /** Tells of what has changed since. */
  look(family: Family): void {
    for (const listener of this.#listeners) if (this.#update(listener, family)) listener.found(unknown)
  }

  /** What has changed since is our own doing. */
  take(family: Family): void {
    for (const listener of this.#listeners) this.#update(listener, family)
  }

  /** True if a table that was seen before has changed. */
  #update(listener: Listener, wanted: Family): boolean {
    let hasChanged = false
    for (const { kind, family, table } of listener.places()) {
      if (kind !== 'legacy' || family !== wanted) continue
      const name = `${family} ${table}`
      const shape = this.#legacy.shape(family, table)
      if (shape === undefined) continue
      const before = this.#seen.get(name)
      this.#seen.set(name, shape)
      if (before !== undefined && before !== shape) hasChanged = true
    }
    return hasChanged
  }
}

const unknown: Finding = { kind: 'unknown' }
