// IPVS by netlink against ipvsadm. See netlink-ipvs.ts, which runs in the virtual machine.
import { expect, it } from 'vitest'
import { findingsOf } from './findings.ts'

it('speaks netlink as ipvsadm does, and starts no program for a change', () => {
  expect(findingsOf('netlink-ipvs.ts')).toHaveLength(8)
}, 1_000_000)
