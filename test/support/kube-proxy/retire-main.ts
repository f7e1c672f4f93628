// Removes kube-proxy's leftovers in the namespace it is started in, both families, and prints what was told, a line of JSON each.
import { machineExec } from '../../../src/kernel/exec.ts'
import { processesNamed } from '../../../src/kernel/processes.ts'
import { takeOver } from '../../../src/takeover/take-over.ts'

const { signal } = new AbortController()
const done = await Promise.all(
  (['IPv4', 'IPv6'] as const).map(family =>
    takeOver(
      {
        family,
        exec: machineExec,
        excludeCIDRs: [],
        running: async () => (await processesNamed(['kube-proxy'])).map(({ pid }) => pid),
        once: true,
        tell: event => console.log(JSON.stringify(event)),
      },
      signal,
    ),
  ),
)
process.exitCode = done.every(Boolean) ? 0 : 1
