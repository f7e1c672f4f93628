// What it costs to find out what this node should do for a Service.
import { resolve } from '../../src/policy/resolve.ts'
import type { Step } from '../bench/micro.ts'
import { endpoint, service, slice } from '../model/build.ts'
import { here } from './view.ts'

/** So many endpoints, 100 to a slice. */
const slicesOf = (count: number) =>
  Array.from({ length: Math.ceil(count / 100) }, (_, part) =>
    slice(
      Array.from({ length: Math.min(100, count - part * 100) }, (_, place) =>
        endpoint(`10.244.${part + 1}.${place + 1}`, { nodeName: place % 10 === 0 ? 'node-a' : 'node-b' }),
      ),
      { name: `web-${part}` },
    ),
  )

const step = (endpoints: number): Step => {
  const slices = slicesOf(endpoints)
  return {
    name: `resolve a Service of ${endpoints} endpoints`,
    run: () => resolve(service(), slices, here, 'IPv4'),
  }
}

export const steps: readonly Step[] = [step(5), step(100), step(1_000)]
