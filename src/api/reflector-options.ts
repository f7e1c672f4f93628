// What a reflector is told, and what it tells of itself.
import { type BackoffOptions, defaultBackoff } from './backoff.ts'
import type { ErrorKind } from './errors.ts'

/** Where the objects go. What it throws ends the reflector: a change that was not taken in must not be forgotten. */
export interface Consumer {
  /** An object as it is now. May be told again of one that has not changed. */
  upsert(key: string, object: unknown): void
  remove(key: string): void
  /** Once: every object that exists has been told. */
  synced(): void
}

export type ReflectorState = 'idle' | 'listing' | 'watching' | 'waiting' | 'absent' | 'stopped'

/** For metrics and `status`. Times are milliseconds since the epoch. */
export interface ReflectorStats {
  readonly state: ReflectorState
  readonly synced: boolean
  /** Objects the server has, as far as we were told. */
  readonly objects: number
  readonly resourceVersion: string
  /** When the server last sent anything, a bookmark too; 0 when it never did. */
  readonly lastEventAt: number
  readonly lists: number
  readonly watches: number
  readonly events: number
  /** Milliseconds since the first list in which no watch was open. */
  readonly gapMs: number
  readonly errors: Readonly<Partial<Record<ErrorKind, number>>>
  /** Why the last attempt failed; absent while all is well. */
  readonly lastError?: string
}

export interface ReflectorOptions {
  /** The server may not have it, or not let us see it: then there are no objects, and it is asked again now and then. */
  readonly optional?: boolean
  readonly backoff?: BackoffOptions
  /** Silence after which a connection counts as dead. Bookmarks come about every 60 s; 100 s. */
  readonly idleMs?: number
  /** Silence before the initial events are complete after which a list is asked for instead; 10 s. */
  readonly initialIdleMs?: number
  /** Bounds of the server-side time limit of a watch, in seconds; 300 to 600. */
  readonly timeoutSeconds?: readonly [number, number]
  /** After this long a watch that ends is followed by a fresh list: the last resort against missed events; 1 h. */
  readonly relistMs?: number
  /** Upper bound of the wait before a list after 410, so that not all nodes list at once; 1 s. */
  readonly goneJitterMs?: number
  /** Wait before an absent resource is asked for again; 10 min. */
  readonly absentMs?: number
  readonly pageSize?: number
  /** Told of every change between well and failing; for the log. */
  readonly onState?: (state: ReflectorState, why: string) => void
  readonly now?: () => number
}

/** What was learned of a server, shared by its reflectors. */
export interface ServerTraits {
  /** Until then its watches are not asked for initial events; milliseconds since the epoch. */
  avoidWatchListUntil: number
}

/** Options with every default filled in. */
export type Settings = Required<Omit<ReflectorOptions, 'onState'>> & Pick<ReflectorOptions, 'onState'>

/** Fills in the defaults. */
export function withDefaults(options: ReflectorOptions): Settings {
  return {
    optional: false,
    backoff: defaultBackoff,
    idleMs: 100_000,
    initialIdleMs: 10_000,
    timeoutSeconds: [300, 600],
    relistMs: 3_600_000,
    goneJitterMs: 1_000,
    absentMs: 600_000,
    pageSize: 500,
    now: Date.now,
    ...options,
  }
}
