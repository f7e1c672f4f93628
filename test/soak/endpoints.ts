// How the EndpointSlices of a Service change: endpoints come, become ready, terminate and go; slices split and merge.
import type { Random } from '../differential/random.ts'
import type { SoakObject } from './traits.ts'

interface SoakEndpoint {
  readonly addresses: readonly string[]
  readonly conditions?: Readonly<Record<string, boolean>>
  readonly [field: string]: unknown
}

/** A slice that is well formed. */
export interface SoakSlice extends SoakObject {
  readonly endpoints?: unknown
}

/** A slice has no more; the real controller stops at 100. */
const mostEndpoints = 60

const isEndpoint = (value: unknown): value is SoakEndpoint =>
  typeof value === 'object' && value !== null && 'addresses' in value

const endpointsOf = (slice: SoakSlice): readonly SoakEndpoint[] =>
  Array.isArray(slice.endpoints) ? slice.endpoints.filter(isEndpoint) : []

type Edit = (random: Random, endpoints: readonly SoakEndpoint[], slice: SoakSlice) => readonly SoakEndpoint[]

const replaceOne = (
  random: Random,
  endpoints: readonly SoakEndpoint[],
  by: (endpoint: SoakEndpoint) => SoakEndpoint,
): readonly SoakEndpoint[] => {
  const at = random.int(0, Math.max(0, endpoints.length - 1))
  return endpoints.map((endpoint, index) => (index === at ? by(endpoint) : endpoint))
}

const randomAddress = (random: Random, { addressType }: SoakSlice): { address: string; nodeName: string } => {
  const node = random.pick([1, 1, 2])
  const host = random.int(10, 60)
  const address = addressType === 'IPv6' ? `fd00:10:244:${node}::${host.toString(16)}` : `10.244.${node}.${host}`
  return { address, nodeName: node === 1 ? 'node-a' : 'node-b' }
}

const isTerminating = ({ conditions }: SoakEndpoint): boolean => conditions?.terminating === true

const edits: readonly Edit[] = [
  // Comes.
  (random, endpoints, slice) => {
    const { address, nodeName } = randomAddress(random, slice)
    return [...endpoints, { addresses: [address], conditions: { ready: random.chance(0.8) }, nodeName }]
  },
  (random, endpoints) =>
    replaceOne(random, endpoints, endpoint => ({ ...endpoint, conditions: { ready: true, serving: true } })),
  (random, endpoints) =>
    replaceOne(random, endpoints, endpoint => ({ ...endpoint, conditions: { ready: false, serving: false } })),
  // Terminates, serving to the last or not.
  (random, endpoints) =>
    replaceOne(random, endpoints, endpoint => ({
      ...endpoint,
      conditions: { ready: false, serving: random.chance(0.7), terminating: true },
    })),
  // All at once, as when a Deployment is scaled to nothing.
  (random, endpoints) => {
    const serving = random.chance(0.5)
    return endpoints.map(endpoint => ({ ...endpoint, conditions: { ready: false, serving, terminating: true } }))
  },
  // Goes.
  (_, endpoints) => endpoints.filter(endpoint => !isTerminating(endpoint)),
  (random, endpoints) => endpoints.filter(() => !random.chance(0.3)),
  // Is another pod with the same address elsewhere, or has another zone's hint.
  (random, endpoints) =>
    replaceOne(random, endpoints, endpoint => ({ ...endpoint, nodeName: random.pick(['node-a', 'node-b']) })),
  (random, endpoints) =>
    endpoints.map(endpoint => ({ ...endpoint, hints: { forZones: [{ name: random.pick(['zone-a', 'zone-b']) }] } })),
]

/** The slices with one change. Those that stay as they are stay the same records. */
export function changedSlices(random: Random, slices: ReadonlyMap<string, SoakSlice>): Map<string, SoakSlice> {
  const changed = new Map(slices)
  if (slices.size === 0) return changed
  const [name, slice] = random.pick([...slices])
  const endpoints = endpointsOf(slice)
  const roll = random.int(0, 9)
  if (roll === 0) changed.delete(name)
  else if (roll === 1 && slices.size < 5) split(changed, name, slice, endpoints)
  else if (roll === 2) merge(random, changed, name, slice)
  else {
    const edited = random.pick(edits)(random, endpoints, slice).slice(-mostEndpoints)
    changed.set(name, { ...slice, endpoints: edited })
  }
  return changed
}

/** Half of a slice moves to a new one. */
function split(
  slices: Map<string, SoakSlice>,
  name: string,
  slice: SoakSlice,
  endpoints: readonly SoakEndpoint[],
): void {
  const fresh = `${name.slice(0, 40)}x${slices.size}`
  if (slices.has(fresh)) return
  const middle = endpoints.length >> 1
  slices.set(name, { ...slice, endpoints: endpoints.slice(0, middle) })
  const { labels, namespace } = slice.metadata
  slices.set(fresh, {
    ...slice,
    metadata: { name: fresh, ...(namespace === undefined ? {} : { namespace }), labels },
    endpoints: endpoints.slice(middle),
  })
}

/** A slice takes in another of its family and ports; for a moment both may have the same endpoints. */
function merge(random: Random, slices: Map<string, SoakSlice>, name: string, slice: SoakSlice): void {
  const other = [...slices].find(
    ([key, { addressType, ports }]) =>
      key !== name && addressType === slice.addressType && JSON.stringify(ports) === JSON.stringify(slice.ports),
  )
  if (other === undefined) return
  const endpoints = [...endpointsOf(slice), ...endpointsOf(other[1])].slice(-mostEndpoints)
  slices.set(name, { ...slice, endpoints })
  if (random.chance(0.7)) slices.delete(other[0])
}
