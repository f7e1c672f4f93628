// What the demo's scenes ask of a cluster. Two answer: one of namespaces with real requests, one of compiled rules.
import type { ApiObject, ObjectReference, Pod, Sender } from './objects.ts'

export interface Request {
  readonly from: Sender
  /** `10.96.0.10:80`. */
  readonly to: string
  readonly count: number
}

/** What became of a number of requests. */
export interface Answers {
  /** Requests by the pod that answered; where rules are traced, the expected number. */
  readonly by: ReadonlyMap<string, number>
  /** Source addresses that pods saw. */
  readonly sources: readonly string[]
  readonly refused: number
  /** No answer at all in time. */
  readonly silent: number
  /** Any other failure, in words. */
  readonly errors: readonly string[]
  /** Of the slowest refusal; absent where nothing was sent. */
  readonly refusedAfterMs?: number
}

/** Requests that go on while the scene changes things. */
export interface Load {
  /** Ends it and says what became of all of them. */
  stop(): Promise<Answers>
}

export interface Cluster {
  /** `real`: requests were sent. `traced`: rules were walked; what needs time or state cannot be seen. */
  readonly kind: 'real' | 'traced'
  /** Creates or replaces. */
  apply(...objects: readonly ApiObject[]): Promise<void>
  remove(...references: readonly ObjectReference[]): Promise<void>
  startPod(pod: Pod): Promise<void>
  /** The pod stops accepting, finishes what it has and is gone. */
  stopPod(pod: Pod): Promise<void>
  send(request: Request): Promise<Answers>
  /** Sends one request after the other until `met`, for at most five seconds. Returns the milliseconds it took. */
  settle(request: Omit<Request, 'count'>, met: (answers: Answers) => boolean): Promise<number>
  load(request: Omit<Request, 'count'>): Promise<Load>
  /** Lets time pass where time matters. */
  pause(ms: number): Promise<void>
  close(): Promise<void>
}

/** Sum of the requests that were answered. */
export const answered = (answers: Answers): number => [...answers.by.values()].reduce((sum, n) => sum + n, 0)

/** Requests that were not answered. */
export const failed = (answers: Answers): number => answers.refused + answers.silent + answers.errors.length
