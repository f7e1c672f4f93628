// What it costs to decode an object of the API.
import { decodeEvent } from '../../src/api/decode.ts'
import type { Step } from '../bench/micro.ts'
import { cluster, slices } from '../bench/objects.ts'

const [, service] = cluster(1, 5)
const [small] = slices(0, 5, 8080)
const [full] = slices(0, 100, 8080)

/** Nothing in these objects is to be complained of. */
const report = (problem: unknown): never => {
  throw new Error(`unexpected: ${JSON.stringify(problem)}`)
}

const text = JSON.stringify(full)

export const steps: readonly Step[] = [
  { name: 'decode a Service', run: () => decodeEvent('Service', 'bench/app-00000', service, report) },
  { name: 'decode a slice of 5', run: () => decodeEvent('EndpointSlice', 'bench/app-00000-0', small, report) },
  { name: 'decode a slice of 100', run: () => decodeEvent('EndpointSlice', 'bench/app-00000-0', full, report) },
  {
    name: 'the same with JSON.parse',
    run: () => decodeEvent('EndpointSlice', 'bench/app-00000-0', JSON.parse(text), report),
  },
]
