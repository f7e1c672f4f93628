// The iptables backend on a strict kernel in memory, with what it needs whatever the Services are.
import type { Backend, KernelObject } from '../../../src/backend/backend.ts'
import { iptablesBackend } from '../../../src/backend/iptables/index.ts'
import type { Variant } from '../../../src/backend/xtables/tools.ts'
import type { Network } from '../../../src/policy/network.ts'
import { DesiredProgram } from '../../../src/sync/program.ts'
import type { StrictExec } from '../../support/strict-iptables/exec.ts'

const network: Network = {
  family: 'IPv4',
  detector: { kind: 'none' },
  masqueradeAll: false,
  masqueradeMark: 0x4000,
  nodePortAddresses: { kind: 'all' },
  localhostNodePorts: true,
  dropInvalid: true,
  nodeAddresses: [],
}

/** Never aborted. */
export const { signal } = new AbortController()

export interface Started {
  readonly backend: Backend
  readonly skeleton: readonly KernelObject[]
  /** Settled: the kernel holds it all. */
  readonly program: DesiredProgram
}

/** A backend of the given variant, or without one of the detected, that has written its skeleton. */
export async function started(exec: StrictExec, variant?: Variant): Promise<Started> {
  const backend = iptablesBackend({ family: 'IPv4', exec, ...(variant === undefined ? {} : { variant }) })
  const skeleton = [...backend.skeleton(network)]
  const program = new DesiredProgram(backend.layout?.())
  program.replace('(skeleton)', skeleton)
  program.rebase(await backend.read(signal))
  await backend.commit(backend.plan(program.pending(), program.objects), signal)
  program.settle()
  return { backend, skeleton, program }
}
