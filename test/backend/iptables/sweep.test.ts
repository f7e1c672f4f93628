// A node whose variant of iptables changes: rules move to the new one, and nothing stays behind in the old one.
import { expect, it } from 'vitest'
import { StrictExec } from '../../support/strict-iptables/exec.ts'
import { signal, started } from './started.ts'

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
  const { backend: before } = await started(exec)
  expect(ours(exec, 'nft').length).toBeGreaterThan(0)
  expect(await before.sweep?.(signal), 'nothing to sweep yet').toBeUndefined()

  exec.iptables('IPv4', 'legacy').restore('*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n', { noflush: true })
  const { backend: after } = await started(exec)
  expect(ours(exec, 'legacy').length, 'new rules first').toBeGreaterThan(0)
  expect(ours(exec, 'nft').length, 'old rules until the sweep').toBeGreaterThan(0)
  expect(await after.sweep?.(signal)).toContain('nft')
  expect(ours(exec, 'nft')).toEqual([])
  expect(exec.iptables('IPv4', 'nft').save()).toContain('-A OTHER -j RETURN')
})

it('is intact until a table is flushed', async () => {
  const exec = new StrictExec()
  const { backend } = await started(exec)
  expect(await backend.isIntact?.(signal)).toBe(true)
  for (const flush of ['*nat\nCOMMIT\n', '*filter\nCOMMIT\n']) {
    await started(exec)
    exec.iptables('IPv4', 'nft').restore(flush, { noflush: false })
    expect(await backend.isIntact?.(signal), flush).toBe(false)
  }
})
