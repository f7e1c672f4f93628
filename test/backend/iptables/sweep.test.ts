// A node whose variant of iptables changes: rules move to the new one, and nothing stays behind in the old one.
import { expect, it } from 'vitest'
import type { Backend } from '../../../src/backend/backend.ts'
import { iptablesBackend } from '../../../src/backend/iptables/index.ts'
import type { Network } from '../../../src/policy/network.ts'
import { DesiredProgram } from '../../../src/sync/program.ts'
import { StrictExec } from '../../support/strict-iptables/exec.ts'

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
const { signal } = new AbortController()

async function start(exec: StrictExec): Promise<Backend> {
  const backend = iptablesBackend({ family: 'IPv4', exec })
  const program = new DesiredProgram(backend.layout?.())
  program.replace('skeleton', backend.skeleton(network))
  program.rebase(await backend.read(signal))
  await backend.commit(backend.plan(program.pending(), program.objects), signal)
  return backend
}

const ours = (exec: StrictExec, variant: 'nft' | 'legacy') =>
  exec
    .iptables('IPv4', variant)
    .save()
    .match(/^-A .*$/gm)
    ?.filter(line => line.includes('PENSTOCK-')) ?? []

it('leaves the former variant once kubelet has chosen another', async () => {
  const exec = new StrictExec()
  const foreign = '*filter\n:OTHER - [0:0]\n-A OTHER -j RETURN\nCOMMIT\n'
  exec.iptables('IPv4', 'nft').restore(foreign, { noflush: true })
  const before = await start(exec)
  expect(ours(exec, 'nft').length).toBeGreaterThan(0)
  expect(await before.sweep?.(signal), 'nothing to sweep yet').toBeUndefined()

  exec.iptables('IPv4', 'legacy').restore('*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n', { noflush: true })
  const after = await start(exec)
  expect(ours(exec, 'legacy').length, 'new rules first').toBeGreaterThan(0)
  expect(ours(exec, 'nft').length, 'old rules until the sweep').toBeGreaterThan(0)
  expect(await after.sweep?.(signal)).toContain('nft')
  expect(ours(exec, 'nft')).toEqual([])
  expect(exec.iptables('IPv4', 'nft').save()).toContain('-A OTHER -j RETURN')
})

it('is intact until a table is flushed', async () => {
  const exec = new StrictExec()
  const backend = await start(exec)
  expect(await backend.isIntact?.(signal)).toBe(true)
  for (const flush of ['*nat\nCOMMIT\n', '*filter\nCOMMIT\n']) {
    await start(exec)
    exec.iptables('IPv4', 'nft').restore(flush, { noflush: false })
    expect(await backend.isIntact?.(signal), flush).toBe(false)
  }
})
