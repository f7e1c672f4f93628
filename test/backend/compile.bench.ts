// What it costs to compile a Service port, in every mode.
import type { Step } from '../bench/micro.ts'
import { networkOf } from '../sync/harness.ts'
import { modes, pureBackend, servicePort } from './cases.ts'

const network = networkOf('IPv4')

export const steps: readonly Step[] = modes.flatMap(mode => {
  const backend = pureBackend(mode)
  return [5, 1_000].map(endpoints => {
    const port = servicePort(1, endpoints, 8080)
    return { name: `${mode}, ${endpoints} endpoints`, run: () => [...backend.compile(port, network)] }
  })
})
