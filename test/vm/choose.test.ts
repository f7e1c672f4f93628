// What the virtual machine is given to do: nothing that has a scenario is left out on any kind.
import { expect, test } from 'vitest'
import { loadScenarios, type Scenario } from '../conformance/scenario.ts'
import { chosenFor } from './scenarios/choose.ts'
import { kinds } from './scenarios/kinds.ts'

const real = loadScenarios().filter(scenario => scenario.real)
const behaviours = (scenarios: readonly Scenario[]) => new Set(scenarios.flatMap(({ reference }) => reference))

test.each(kinds)('$name shows every behaviour', kind => {
  const chosen = chosenFor(kind, real, false)
  expect(behaviours(chosen)).toEqual(behaviours(real))
  if (kind.onlyHere) expect(chosen).toEqual(real)
  else expect(chosen.length).toBeLessThan(real.length / 2)
  expect(chosenFor(kind, real, true)).toEqual(real)
})
