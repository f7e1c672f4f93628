// Source: everything the model is told, from manifest files instead of an API server.
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ModelEvent, ModelKind } from '../model/records.ts'
import { decodeEvent, modelKinds, type ObjectEvent, removalEvent } from './decode.ts'
import { codeOf, messageOf } from './errors.ts'
import type { Problem, Report } from './fields.ts'
import { DirectoryWatches, type Listing, listManifests, type ManifestFile } from './manifest-files.ts'
import { ManifestError, type ManifestObject, parseManifest } from './manifest-parse.ts'
import { createPacer } from './pacer.ts'
import { createProblemLog, type ProblemLog } from './problem-log.ts'
import type { Sink, Source, SourceStats } from './source.ts'

export interface ManifestSourceOptions {
  /** Files, directories (searched whole), or `-` for standard input. Of two objects with one name the last path's wins. */
  readonly paths: readonly string[]
  readonly nodeName: string
  /** Told once of each problem of an object or a file, and again only after it was well. */
  readonly report: Report
  /** Reads standard input to its end. */
  readonly stdin?: () => Promise<string>
  /** Ends a read of standard input that is under way. */
  readonly closeStdin?: () => void
  /** Wait after a change, for the writer to finish; 100 ms. */
  readonly settleMs?: number
  /** How often to look although nothing was noticed; 10 s. */
  readonly pollMs?: number
}

/** Files as a source. */
export interface ManifestSource extends Source {
  /**
   * Reads everything once: the events of all objects, then `synced` for every kind.
   * @throws ManifestError when a path cannot be read or is not YAML or JSON. Objects that cannot be used are reported.
   */
  readOnce(): Promise<readonly ModelEvent[]>
}

/** A source over files; reads nothing yet. */
export function createManifestSource(options: ManifestSourceOptions): ManifestSource {
  return new Manifests(options)
}

const standardInput = '-'

interface FileState {
  readonly fingerprint: string
  readonly objects: ReadonlyMap<string, ManifestObject>
}

class Manifests implements ManifestSource {
  readonly #options: ManifestSourceOptions
  readonly #problems: ProblemLog
  /** What each file held when it was last whole. */
  readonly #files = new Map<string, FileState>()
  /** Files in order; later ones win. */
  #order = new Map<string, number>()
  /** Who states an object: `kind key` to the files that hold it. */
  readonly #holders = new Map<string, Set<string>>()
  /** The object in force for each `kind key`. */
  readonly #winners = new Map<string, ManifestObject>()
  /** Problems of files, so that each is told once. */
  readonly #troubles = new Map<string, string>()
  /** Files that held objects and were empty at the last look. */
  readonly #emptied = new Set<string>()
  #stdin: Promise<string> | undefined
  #synced = false

  constructor(options: ManifestSourceOptions) {
    this.#options = options
    this.#problems = createProblemLog(options.report)
  }

  async readOnce(): Promise<readonly ModelEvent[]> {
    const events: ModelEvent[] = []
    const listing = await listManifests(this.#diskPaths())
    for (const [path, error] of listing.errors) throw unreadable(path, error)
    await this.#scan(listing, event => events.push(event))
    const [trouble] = this.#troubles.values()
    if (trouble !== undefined) throw new ManifestError(trouble)
    for (const of of modelKinds) events.push({ kind: 'synced', of })
    return events
  }

  async start(sink: Sink, signal: AbortSignal): Promise<void> {
    const wake = createWake()
    const watches = new DirectoryWatches(wake.ring)
    // Standard input may stay open for ever; it must not keep us from stopping.
    signal.addEventListener('abort', this.#options.closeStdin ?? (() => process.stdin.destroy()), { once: true })
    try {
      while (!signal.aborted) {
        const listing = await listManifests(this.#diskPaths())
        watches.set(listing.directories)
        await this.#scan(listing, sink)
        this.#sync(sink)
        await wake.wait(this.#options.pollMs ?? 10_000, this.#options.settleMs ?? 100, signal)
      }
    } finally {
      watches.close()
    }
  }

  stats(): SourceStats {
    return { kinds: {}, undecodable: this.#problems.undecodable }
  }

  #diskPaths(): string[] {
    return this.#options.paths.filter(path => path !== standardInput)
  }

  /** While a file cannot be read whose contents were never known, nothing may be taken for gone. */
  #sync(sink: Sink): void {
    if (this.#synced || this.#troubles.size > 0) return
    this.#synced = true
    for (const of of modelKinds) sink({ kind: 'synced', of })
  }

  /** Reads what changed and tells the sink of every object that another file, or no file, states now. */
  async #scan(listing: Listing, sink: Sink): Promise<void> {
    const files = this.#inOrder(listing)
    this.#order = new Map(files.map((file, index) => [file.path, index]))
    this.#settleListing(listing)
    const changed = new Set<string>()
    const pacer = createPacer()
    for (const path of this.#files.keys()) {
      if (!this.#order.has(path) && !isUnder(listing.errors, path)) this.#forget(path, changed)
    }
    for (const file of files) {
      if (this.#files.get(file.path)?.fingerprint === file.fingerprint && !this.#troubles.has(file.path)) continue
      await this.#read(file, changed)
      await pacer.pause()
    }
    for (const id of changed) {
      this.#tell(id, sink)
      await pacer.pause()
    }
  }

  /** Standard input stands where it was given; it is read once. */
  #inOrder(listing: Listing): ManifestFile[] {
    if (!this.#options.paths.includes(standardInput)) return [...listing.files]
    const roots = this.#options.paths.slice(this.#options.paths.indexOf(standardInput) + 1)
    const isAfter = (file: ManifestFile): boolean => roots.some(root => isWithin(file.path, root))
    const input = { path: standardInput, fingerprint: standardInput }
    return [...listing.files.filter(file => !isAfter(file)), input, ...listing.files.filter(isAfter)]
  }

  /** A path that cannot be looked at keeps what it held; one that is gone, once everything was read, is deleted. */
  #settleListing(listing: Listing): void {
    const listed = new Set([...this.#order.keys(), ...listing.errors.keys()])
    for (const path of this.#troubles.keys()) if (!listed.has(path)) this.#troubles.delete(path)
    for (const [path, error] of listing.errors) {
      const isDeleted = this.#synced && codeOf(error) === 'ENOENT'
      this.#trouble(path, unreadable(path, error).message, isDeleted ? 'its objects are removed' : stays)
    }
  }

  async #read(file: ManifestFile, changed: Set<string>): Promise<void> {
    const problems: Problem[] = []
    let objects: ManifestObject[]
    try {
      const text = file.path === standardInput ? await this.#readInput() : await readFile(file.path, 'utf8')
      objects = parseManifest(file.path, text, problem => problems.push(problem))
    } catch (error) {
      const message = error instanceof ManifestError ? error.message : unreadable(file.path, error).message
      this.#trouble(file.path, message, stays)
      return
    }
    this.#troubles.delete(file.path)
    if (this.#isBeingWritten(file.path, objects)) return
    for (const problem of problems) this.#options.report(problem)
    this.#forget(file.path, changed)
    const held = new Map<string, ManifestObject>()
    for (const object of objects) {
      if (object.kind === 'Node' && object.key !== this.#options.nodeName) continue
      const id = idOf(object.kind, object.key)
      if (held.has(id)) this.#shadowed(object, `${file.path} states it twice; the last one wins`)
      held.set(id, object)
      changed.add(id)
      const holders = this.#holders.get(id) ?? new Set()
      if (holders.size > 0) {
        const winner = this.#lastOf([...holders, file.path])
        this.#shadowed(object, `is stated by ${[...holders, file.path].join(' and ')}; ${winner} wins`)
      }
      holders.add(file.path)
      this.#holders.set(id, holders)
    }
    this.#files.set(file.path, { fingerprint: file.fingerprint, objects: held })
  }

  /**
   * True for a file that held objects and is empty at this look: most writers empty a file before they fill it, and its
   * Services must not be gone meanwhile. At the next look it counts.
   */
  #isBeingWritten(path: string, objects: readonly ManifestObject[]): boolean {
    const isSuspect = objects.length === 0 && (this.#files.get(path)?.objects.size ?? 0) > 0
    if (isSuspect && !this.#emptied.has(path)) {
      this.#emptied.add(path)
      return true
    }
    this.#emptied.delete(path)
    return false
  }

  #readInput(): Promise<string> {
    this.#stdin ??= (this.#options.stdin ?? readStandardInput)()
    return this.#stdin
  }

  #forget(path: string, changed: Set<string>): void {
    for (const id of this.#files.get(path)?.objects.keys() ?? []) {
      changed.add(id)
      const holders = this.#holders.get(id)
      holders?.delete(path)
      if (holders?.size === 0) this.#holders.delete(id)
    }
    this.#files.delete(path)
  }

  #tell(id: string, sink: Sink): void {
    const holders = this.#holders.get(id)
    const before = this.#winners.get(id)
    const winner = holders === undefined ? undefined : this.#files.get(this.#lastOf([...holders]))?.objects.get(id)
    if (winner === undefined) {
      this.#winners.delete(id)
      if (before === undefined) return
      this.#problems.forget(before.kind, before.key)
      sink(removalEvent(before.kind, before.key))
      return
    }
    this.#winners.set(id, winner)
    const event = this.#decode(winner)
    if (event !== undefined) sink(event)
  }

  #decode({ kind, key, object }: ManifestObject): ObjectEvent | undefined {
    return this.#problems.collect(kind, key, report => decodeEvent(kind, key, object, report))
  }

  #lastOf(paths: readonly string[]): string {
    return paths.reduce((last, path) => ((this.#order.get(path) ?? -1) > (this.#order.get(last) ?? -1) ? path : last))
  }

  #shadowed({ kind, key }: ManifestObject, message: string): void {
    this.#options.report({ object: `${kind} ${key}`, field: 'metadata.name', message })
  }

  #trouble(path: string, message: string, consequence: string): void {
    if (this.#troubles.get(path) === message) return
    this.#troubles.set(path, message)
    this.#options.report({ object: path, field: '.', message: `${message}; ${consequence}` })
  }
}

const stays = 'what it held before stays in force'

const idOf = (kind: ModelKind, key: string): string => `${kind} ${key}`

const isWithin = (file: string, root: string): boolean =>
  file === root || file.startsWith(`${root.replace(/\/+$/, '')}/`)

/** True below a path that is there but could not be looked at. */
const isUnder = (errors: ReadonlyMap<string, Error>, file: string): boolean =>
  [...errors].some(([path, error]) => codeOf(error) !== 'ENOENT' && isWithin(file, path))

const unreadable = (path: string, error: unknown): ManifestError =>
  new ManifestError(`cannot read ${path}: ${messageOf(error)}`, { cause: error })

async function readStandardInput(): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) if (Buffer.isBuffer(chunk)) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}

interface Wake {
  readonly ring: () => void
  /** Until rung, and then until it has been quiet for `settleMs`; or until `pollMs` have passed; or until aborted. */
  wait(pollMs: number, settleMs: number, signal: AbortSignal): Promise<void>
}

/** A writer that never pauses must not put off reading for ever. */
const settleRounds = 20

function createWake(): Wake {
  let isRung = false
  let wakeUp = (): void => undefined
  const untilRung = async (ms: number, signal: AbortSignal): Promise<boolean> => {
    if (!isRung && !signal.aborted) {
      const timer = new AbortController()
      wakeUp = () => timer.abort()
      signal.addEventListener('abort', wakeUp, { once: true })
      await sleep(ms, undefined, { signal: timer.signal }).catch(() => undefined)
      signal.removeEventListener('abort', wakeUp)
    }
    const wasRung = isRung
    isRung = false
    return wasRung
  }
  return {
    ring() {
      isRung = true
      wakeUp()
    },
    async wait(pollMs, settleMs, signal) {
      if (!(await untilRung(pollMs, signal))) return
      for (let round = 0; round < settleRounds && !signal.aborted; round++) {
        if (!(await untilRung(settleMs, signal))) return
      }
    },
  }
}
