// A digest of our rules tells that somebody wrote to them, and only then; a look at our jumps misses none.
import { describe, expect, it } from 'vitest'
import { StrictExec } from '../../support/strict-iptables/exec.ts'
import { signal, started } from './started.ts'

describe.each(['nft', 'legacy'] as const)('%s', variant => {
  async function start() {
    const exec = new StrictExec()
    const { backend, skeleton, program } = await started(exec, variant)
    const write = (text: string) => exec.iptables('IPv4', variant).restore(text, { noflush: true })
    const digest = async () => (await backend.fingerprint?.(signal, false))?.digest
    return { backend, skeleton, program, write, digest }
  }

  it('a digest changes with every change of ours and with no other', async () => {
    const { program, backend, write, digest } = await start()
    const before = await digest()
    write(
      '*nat\n:CNI-X - [0:0]\n-A CNI-X -j RETURN\n-I PREROUTING -j CNI-X\nCOMMIT\n*filter\n-A FORWARD -j DROP\nCOMMIT\n',
    )
    expect(await digest()).toBe(before)
    const seen = new Set([before])
    for (const damage of [
      '*nat\n-D PENSTOCK-POSTROUTING 2\nCOMMIT\n',
      '*nat\n-A PENSTOCK-SERVICES -j RETURN\nCOMMIT\n',
      '*nat\n:PENSTOCK-FOREIGN - [0:0]\nCOMMIT\n',
      '*filter\n-F FORWARD\nCOMMIT\n',
      '*filter\n-F PENSTOCK-FORWARD\nCOMMIT\n',
    ]) {
      write(damage)
      seen.add(await digest())
    }
    expect(seen.size).toBe(6)
    expect(program.rebase(await backend.read(signal))).toMatchObject({ foreign: 1 })
    await backend.commit(backend.plan(program.pending(), program.objects), signal)
    program.settle()
    expect(program.rebase(await backend.read(signal))).toMatchObject({ missing: 0, foreign: 0, changed: 0 })
  })

  it('every jump is looked for, and one that is there twice is not as it should be', async () => {
    const { backend, skeleton, write } = await start()
    expect(await backend.isIntact?.(signal, skeleton)).toBe(true)
    write('*nat\n-I PREROUTING -j RETURN\nCOMMIT\n')
    expect(await backend.isIntact?.(signal, skeleton)).toBe(true)
    write('*filter\n-A OUTPUT -j PENSTOCK-LOCALNET\nCOMMIT\n')
    expect(await backend.isIntact?.(signal, skeleton)).toBe(false)
    for (const chain of ['nat OUTPUT', 'nat POSTROUTING', 'filter INPUT', 'filter OUTPUT', 'filter FORWARD']) {
      const fresh = await start()
      const [table = '', name = ''] = chain.split(' ')
      fresh.write(`*${table}\n-F ${name}\nCOMMIT\n`)
      expect(await fresh.backend.isIntact?.(signal, fresh.skeleton), chain).toBe(false)
    }
  })

  it('what the kernel tells of needs no digest', async () => {
    const { backend } = await start()
    expect((await backend.fingerprint?.(signal, true)) === undefined).toBe(variant === 'nft')
    expect(new Set(backend.watched?.().map(({ kind }) => kind))).toEqual(
      new Set([variant === 'nft' ? 'nf_tables' : 'legacy']),
    )
  })
})
