// Every scenario on the iptables backend, on both variants.
import { conformance } from '../../conformance/conformance.ts'
import { StrictExec } from '../../support/strict-iptables/exec.ts'

for (const variant of ['nft', 'legacy'] as const) {
  conformance(`iptables, ${variant} variant`, {
    mode: 'iptables',
    machine: () => new StrictExec({ variants: [variant] }),
    deviations: [],
  })
}
