// Which scenarios a kind runs in the virtual machine. Pure.
import type { Scenario } from '../../conformance/scenario.ts'
import type { Kind } from './kinds.ts'

/**
 * All of them where this is the only kernel that has them at all. The other kinds have run them all on the machine's own
 * kernel; here they take, by default, the few that together show every behaviour there is a scenario for: emulated, the whole
 * lot of each would take the test run beyond the time that it may have. `whole` runs everything.
 */
export const chosenFor = (kind: Kind, real: readonly Scenario[], whole: boolean): readonly Scenario[] =>
  whole || kind.onlyHere ? real : coverOf(real)

/** A few scenarios with all `reference` entries of all: each time the one with most that are still missing. */
export function coverOf(scenarios: readonly Scenario[]): readonly Scenario[] {
  const missing = new Set(scenarios.flatMap(({ reference }) => reference))
  const missingIn = ({ reference }: Scenario): number => reference.filter(entry => missing.has(entry)).length
  const chosen: Scenario[] = []
  while (missing.size > 0) {
    const next = scenarios.reduce((best, scenario) => (missingIn(scenario) > missingIn(best) ? scenario : best))
    chosen.push(next)
    for (const entry of next.reference) missing.delete(entry)
  }
  return chosen
}
