// The scenarios as nftables mode means them.
import { asMeantBy } from './deviations.ts'
import type { Scenario } from './scenario.ts'

/** `asMeantBy('nftables', scenario)`. */
export const asNftables = (scenario: Scenario): Scenario => asMeantBy('nftables', scenario)
