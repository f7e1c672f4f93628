// Writing transactions to the kernel: by netlink here, and what is the same whoever writes.
import { setTimeout as sleep } from 'node:timers/promises'
import { NetlinkError } from '../../kernel/netlink/message.ts'
import type { NftConnection, NftRefusal } from '../../kernel/netlink/nft-connection.ts'
import { type NftOperation, tableFlag } from '../../kernel/netlink/nft-objects.ts'
import type { Family } from '../../net/ip.ts'
import { CommitError, type Step, type Transaction } from '../backend.ts'
import { type Command, Encoder, needsWhatIsThere, objectOf } from './commands.ts'
import { entrances, familyWord, tableName } from './names.ts'
import { isNftStep, type NftStep } from './plan.ts'
import { isOwned, ownerPatienceMs, type Written } from './written.ts'

/** Waits between the tries of a sweep, milliseconds. Kernels before 6.2 free a chain within one RCU grace period or two. */
const sweepWaits = [20, 200, 1_000]

/** Writes one step. */
export type Write<S extends Step> = (step: S, signal: AbortSignal) => Promise<Written>

/** Writes the steps in order, each whole or not at all. Throws CommitError; with `refused`, its keys name the objects at fault. */
export async function commit(write: Write<NftStep>, transaction: Transaction, signal: AbortSignal): Promise<void> {
  for (const step of transaction.steps) {
    if (!isNftStep(step)) throw new Error(`not a step of the nftables backend: ${step.title}`)
    await writeStep(write, step, signal)
  }
}

async function writeStep(write: Write<NftStep>, step: NftStep, signal: AbortSignal): Promise<void> {
  const written = await (step.isSweep ? sweep(write, step, signal) : write(step, signal))
  if (written === 'written') return
  const halves = written.kind === 'too-long' ? step.halves() : undefined
  if (halves === undefined) throw written.error
  for (const half of halves) await writeStep(write, half, signal)
}

/**
 * Deletes what nothing leads to any more. A chain that stays busy is left: it is empty, is made anew by whoever needs it,
 * and the next full comparison finds it.
 */
async function sweep(write: Write<NftStep>, step: NftStep, signal: AbortSignal): Promise<Written> {
  const isBusy = (written: Written): boolean => written !== 'written' && written.kind === 'busy'
  for (const wait of sweepWaits) {
    const written = await write(step, signal)
    if (!isBusy(written)) return written
    await sleep(wait, undefined, { signal }).catch(() => undefined)
    if (signal.aborted) return 'written'
  }
  const last = await write(step, signal)
  return isBusy(last) ? 'written' : last
}

/** What the syncer is told of a connection that fails (`design.md` §3). */
export function failureOf(error: unknown): CommitError {
  if (error instanceof CommitError) return error
  if (!(error instanceof NetlinkError)) throw error
  const message = `nf_tables: ${error.message}`
  switch (error.code) {
    case 'EPERM':
    case 'EACCES':
      return new CommitError('denied', message, { cause: error })
    case 'EPROTONOSUPPORT':
    case 'EAFNOSUPPORT':
    case 'EOPNOTSUPP':
      return new CommitError('unsupported', `${message}: this kernel has no nf_tables (5.13 or newer is needed)`, {
        cause: error,
      })
    default:
      return new CommitError('transient', message, { cause: error })
  }
}

/** Writes by netlink, and keeps the table for its connection where that is wanted and the kernel can. */
export class KernelWriter {
  readonly #connection: NftConnection
  readonly #family: Family
  /** Flags of a table that is made, where the kernel takes them. */
  readonly #newFlags: number
  /** Flags of the table, as last seen or made; undefined: there is none, or nobody has looked. */
  #flags: number | undefined
  #isOurs = false
  #claiming: NodeJS.Timeout | undefined

  /** `own`: others shall not be able to change the table, and it shall outlive this process. */
  constructor(connection: NftConnection, family: Family, own: boolean) {
    this.#connection = connection
    this.#family = family
    this.#newFlags = own ? tableFlag.owner | tableFlag.persist : 0
  }

  /** Takes note of the table's flags; undefined: there is none. */
  saw(flags: number | undefined): void {
    this.#flags = flags
    // A table without owner is nobody's, whoever made it.
    if (flags === undefined || (flags & tableFlag.owner) === 0) this.#isOurs = false
  }

  readonly write: Write<NftStep> = async (step, signal) => {
    try {
      return await this.#write(step, signal, { flags: this.#newFlags, claims: this.#claims() })
    } catch (error) {
      const failed = failureOf(error)
      return { kind: isTooLong(error) ? 'too-long' : 'failed', error: failed }
    }
  }

  /**
   * Makes a table ours that an earlier owner has left, so that nobody can flush it before the first change comes. While
   * another process still owns it, as during a rolling update, that is tried again until `stop`: there may be nothing to
   * write for long after that one has ended. Throws NetlinkError.
   */
  async claim(signal?: AbortSignal): Promise<void> {
    clearTimeout(this.#claiming)
    if (!this.#claims()) return
    const table: NftOperation = { kind: 'add-table', flags: this.#newFlags }
    const refusals = await this.#connection.commit(familyWord(this.#family), tableName, [table], signal)
    if (refusals.length === 0) this.#made(this.#newFlags)
    if (refusals.every(({ code }) => code !== 'EPERM')) return
    // A failure shows at the next reading.
    this.#claiming = setTimeout(() => void this.claim().catch(() => undefined), ownerPatienceMs).unref()
  }

  /** Ends what goes on by itself. */
  stop(): void {
    clearTimeout(this.#claiming)
  }

  /** Removes the table: `entrances` first, then the rest. None is no error. Throws CommitError. */
  async cleanup(signal: AbortSignal): Promise<void> {
    const commit = (operations: readonly NftOperation[]): Promise<readonly NftRefusal[]> =>
      this.#connection.commit(familyWord(this.#family), tableName, operations, signal)
    try {
      // Where they are not there, or not ours to delete, the next says so.
      await commit(entrances.map(name => ({ kind: 'delete-chain', name })))
      const [refusal] = await commit([{ kind: 'delete-table' }])
      if (refusal !== undefined && refusal.code !== 'ENOENT') {
        throw refusal.code === 'EPERM'
          ? isOwned(this.#family)
          : new CommitError('transient', `nf_tables: ${refusal.message}`)
      }
      this.saw(undefined)
    } catch (error) {
      throw failureOf(error)
    }
  }

  /**
   * True for a table that was left by an earlier owner, or may be by now: it is made ours with the first thing we write.
   * One that another process still owns is refused in any case.
   */
  #claims(): boolean {
    return this.#newFlags !== 0 && !this.#isOurs && this.#flags !== undefined && (this.#flags & tableFlag.persist) !== 0
  }

  async #write(step: NftStep, signal: AbortSignal, attempt: Attempt): Promise<Written> {
    const { flags, claims, each } = attempt
    const batch = new Batch(step.commands(each), new Encoder(this.#family, flags), claims)
    const refusals = await this.#connection.commit(familyWord(this.#family), tableName, batch.operations(), signal)
    const [refusal] = refusals
    if (refusal === undefined) {
      if (batch.hasTable) this.#made(flags)
      return 'written'
    }
    const isRefused = (test: (operation: number) => boolean): boolean =>
      refusals.some(({ operation }) => operation !== undefined && test(operation))
    if (flags !== 0 && refusal.code !== 'EPERM' && isRefused(operation => batch.isTable(operation))) {
      // Kernels before 6.9 have no `persist`; and a table that somebody made meanwhile keeps the flags it has.
      return this.#write(step, signal, { ...attempt, flags: 0, claims: false })
    }
    if (each === undefined && isRefused(operation => batch.isGroup(operation))) {
      return this.#write(step, signal, { ...attempt, each: 'each' })
    }
    return this.#outcome(refusals, batch, step)
  }

  #made(flags: number): void {
    this.#flags = flags
    this.#isOurs = (flags & tableFlag.owner) !== 0
  }

  #outcome(refusals: readonly NftRefusal[], batch: Batch, { isSweep }: NftStep): Written {
    const keys = new Set<string>()
    for (const refusal of refusals) {
      const command = refusal.operation === undefined ? undefined : batch.commandOf(refusal.operation)
      const message = `nf_tables: ${refusal.message}`
      switch (refusal.code) {
        case 'EPERM':
          return { kind: 'failed', error: isOwned(this.#family) }
        case 'EBUSY':
          if (isSweep) return { kind: 'busy', error: new CommitError('transient', message) }
          // So kernels before 5.7 call an element that has another value.
          if (command?.kind === 'add-elements') return { kind: 'failed', error: new CommitError('stale', message) }
          return { kind: 'failed', error: new CommitError('transient', message) }
        case 'EEXIST':
          return { kind: 'failed', error: new CommitError('stale', message) }
        case 'EINTR':
        case 'EAGAIN':
        case 'ENOMEM':
        case 'ENOBUFS':
          return { kind: 'failed', error: new CommitError('transient', message) }
        case 'ENOENT':
          if (command !== undefined && needsWhatIsThere(command)) {
            return { kind: 'failed', error: new CommitError('stale', message) }
          }
      }
      const key = command === undefined ? undefined : objectOf(command)
      if (key !== undefined) keys.add(key)
    }
    const [named = ''] = keys
    const message = `nf_tables: ${refusals[0]?.message}${named === '' ? '' : ` (${named})`}`
    return { kind: 'failed', error: new CommitError('refused', message, { keys: [...keys] }) }
  }
}

interface Attempt {
  /** Of a table that is made. */
  readonly flags: number
  /** A table that is there is made ours. */
  readonly claims: boolean
  /** Elements one by one, so that the kernel names the one it refuses. */
  readonly each?: 'each'
}

const isTooLong = (error: unknown): boolean => error instanceof NetlinkError && error.code === 'EMSGSIZE'

/** Commands as operations, made as they are asked for; which operation is of which command is remembered. */
class Batch {
  /** The table is made, or claimed, in it. */
  hasTable = false
  readonly #source: Iterable<Command>
  readonly #encoder: Encoder
  readonly #claims: boolean
  readonly #commands: Command[] = []

  constructor(commands: Iterable<Command>, encoder: Encoder, claims: boolean) {
    this.#source = commands
    this.#encoder = encoder
    this.#claims = claims
  }

  *operations(): Iterable<NftOperation> {
    if (this.#claims) yield* this.#of({ kind: 'add-table' })
    for (const command of this.#source) yield* this.#of(command)
  }

  commandOf(operation: number): Command | undefined {
    return this.#commands[operation]
  }

  isTable(operation: number): boolean {
    return this.#commands[operation]?.kind === 'add-table'
  }

  /** Elements of which the kernel does not say which one it refuses. */
  isGroup(operation: number): boolean {
    const command = this.#commands[operation]
    return command?.kind === 'add-elements' && command.elements.length > 1
  }

  #of(command: Command): readonly NftOperation[] {
    if (command.kind === 'add-table') this.hasTable = true
    const operations = this.#encoder.operationsOf(command)
    for (let count = 0; count < operations.length; count++) this.#commands.push(command)
    return operations
  }
}
