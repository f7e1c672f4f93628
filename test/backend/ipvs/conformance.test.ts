// The IPVS backend proves itself: all scenarios, by trace and event by event against a strict in-memory kernel.
import { conformance } from '../../conformance/conformance.ts'
import { StrictIpvs } from '../../support/strict-ipvs/machine.ts'

conformance('ipvs', { mode: 'ipvs', machine: () => new StrictIpvs() })
