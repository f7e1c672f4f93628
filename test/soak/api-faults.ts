// What goes wrong between the daemon and the API server: each an episode with a beginning and an end.
import type { Random } from '../differential/random.ts'
import type { Fault } from '../support/apiserver/faults.ts'

/** What is done at the API server. */
export type ApiTrouble =
  | { readonly kind: 'fault'; readonly fault: Fault }
  /** Nobody listens for a while: a restart. */
  | { readonly kind: 'refuse' }
  /** History is forgotten and connections end: whoever resumes is told 410. */
  | { readonly kind: 'compact' }
  | { readonly kind: 'drop' }

/** Undefined: all of them. */
const resources = ['services', 'services', 'endpointslices', 'endpointslices', 'nodes', 'servicecidrs', undefined]

/** A fault of the embedded server, for a random kind of object. */
export function randomApiTrouble(random: Random): ApiTrouble {
  const resource = random.pick(resources)
  const target = resource === undefined ? {} : { resource }
  const after = random.pick([0, 0, 1, 3])
  const faults: readonly Fault[] = [
    { ...target, kind: 'reset' },
    { ...target, kind: 'stall' },
    { ...target, kind: 'status', code: 429, retryAfterSeconds: 1 },
    { ...target, kind: 'status', code: 500 },
    { ...target, kind: 'status', code: 503 },
    { ...target, kind: 'status', code: 410, verb: random.pick(['list', 'watch']) },
    // Only of these two: what the daemon can do without it would not ask for again for minutes.
    { kind: 'status', code: random.pick([401, 403]), resource: random.pick(['services', 'endpointslices']) },
    { ...target, kind: 'delay', ms: random.int(100, 1_500) },
    { ...target, kind: 'drip', bytes: 2_000, everyMs: 20 },
    { ...target, kind: 'stream-reset', after },
    { ...target, kind: 'stream-close', after },
    { ...target, kind: 'stream-half-line', after },
    { ...target, kind: 'stream-freeze', after },
    { ...target, kind: 'stream-error', after, code: 410 },
    { ...target, kind: 'stream-error', after, code: 500 },
    // In the middle of a list.
    { ...target, kind: 'stream-half-line', verb: 'list', after: random.int(0, 20) },
    { ...target, kind: 'stream-reset', verb: 'list', after: random.int(0, 20) },
  ]
  const roll = random.int(0, 19)
  if (roll === 0) return { kind: 'compact' }
  if (roll === 1) return { kind: 'drop' }
  if (roll <= 3) return { kind: 'refuse' }
  return { kind: 'fault', fault: random.pick(faults) }
}

/** In a few words. */
export function nameOfTrouble(trouble: ApiTrouble): string {
  if (trouble.kind !== 'fault') return `API ${trouble.kind}`
  const { fault } = trouble
  const code = 'code' in fault ? ` ${fault.code}` : ''
  return `API ${fault.kind}${code}${fault.resource === undefined ? '' : ` ${fault.resource}`}`
}
