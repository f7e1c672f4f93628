// The runner: `node main PLAN` runs the plan's scenarios with real packets, in namespaces it makes, and prints a line of JSON
// for each. Status 0 if all went well, 1 if one did not. Bundled by start.ts; the same in and outside the virtual machine.
import { readFileSync } from 'node:fs'
import { eachLimited } from '../../support/world/limited.ts'
import type { Line, Plan } from './plan.ts'
import { runKind, secondsSince } from './run.ts'

const [, , file = ''] = process.argv
const plan: Plan = JSON.parse(readFileSync(file, 'utf8'))
const began = performance.now()
let scenarios = 0
let failed = 0

const print = (line: Line): void => console.log(JSON.stringify(line))

await eachLimited(plan.kinds, plan.parallel, async kind => {
  try {
    await runKind(kind, line => {
      print(line)
      if (line.event !== 'scenario') return
      scenarios++
      if (line.failures.length > 0) failed++
    })
  } catch (error) {
    failed++
    const reason = error instanceof Error ? (error.stack ?? error.message) : String(error)
    print({ event: 'broken', kind: kind.name, reason })
  }
})
print({ event: 'summary', scenarios, failed, seconds: secondsSince(began) })
process.exitCode = failed === 0 ? 0 : 1
