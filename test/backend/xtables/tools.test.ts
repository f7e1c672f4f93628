// Which variant of iptables a node uses, and what a failed program means.
import { describe, expect, it } from 'vitest'
import { detectTools, failure, toolChoice } from '../../../src/backend/xtables/tools.ts'
import type { Exec, ExecResult } from '../../../src/kernel/exec.ts'

type Answers = Readonly<Record<string, Partial<ExecResult>>>

/** Programs that answer as told, by command line; others are not installed. */
const machine = (answers: Answers): Exec => ({
  run: async (command, args) => {
    const answer = answers[[command, ...args].join(' ')]
    return answer === undefined
      ? { exitCode: -1, stdout: '', stderr: '', notFound: true }
      : { exitCode: 0, stdout: '', stderr: '', notFound: false, ...answer }
  },
})

const both: Answers = {
  'iptables-nft --version': { stdout: 'iptables v1.8.9 (nf_tables)' },
  'iptables-legacy --version': { stdout: 'iptables v1.8.9 (legacy)' },
  'iptables-nft-save -t mangle': {},
  'iptables-nft-save': {},
  'iptables-legacy-save -t mangle': {},
  'iptables-legacy-save': {},
  'cat /proc/net/ip_tables_names': { stdout: 'nat\nfilter\n' },
}
const hint = { stdout: '*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n' }
const canary = { stdout: '*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n' }
const rules = (count: number) => ({ stdout: `*filter\n${'-A INPUT -j ACCEPT\n'.repeat(count)}COMMIT\n` })
const denied = { exitCode: 4, stderr: 'iptables-legacy-save v1.8.9 (legacy): Permission denied (you must be root)' }

describe('the variant', () => {
  it.each<[string, Answers, 'nft' | 'legacy']>([
    ['nothing anywhere: nft', both, 'nft'],
    [
      "kubelet's hint in nft",
      { ...both, 'iptables-nft-save -t mangle': hint, 'iptables-legacy-save': rules(9) },
      'nft',
    ],
    [
      "kubelet's hint in legacy",
      { ...both, 'iptables-legacy-save -t mangle': hint, 'iptables-nft-save': rules(9) },
      'legacy',
    ],
    ["kubelet's canary in legacy", { ...both, 'iptables-legacy-save -t mangle': canary }, 'legacy'],
    ['more rules in legacy', { ...both, 'iptables-legacy-save': rules(3), 'iptables-nft-save': rules(2) }, 'legacy'],
    ['as many rules in both: nft', { ...both, 'iptables-legacy-save': rules(2), 'iptables-nft-save': rules(2) }, 'nft'],
    [
      'rules of our own backends count for neither',
      {
        ...both,
        'iptables-legacy-save': {
          stdout: [
            '*mangle',
            '-A INPUT -m comment --comment "penstock ipvs" -j PENSTOCKVS-SERVICES',
            '-A PENSTOCKVS-SERVICES -j RETURN',
            '-A PENSTOCK-SERVICES -j RETURN',
            'COMMIT',
            '',
          ].join('\n'),
        },
        'iptables-nft-save': rules(1),
      },
      'nft',
    ],
    ['a kernel without nf_tables', { ...both, 'iptables-nft-save -t mangle': { exitCode: 1 } }, 'legacy'],
    [
      'no legacy table in the kernel: its programs are not even asked',
      { ...both, 'cat /proc/net/ip_tables_names': { stdout: '' }, 'iptables-legacy-save -t mangle': hint },
      'nft',
    ],
    [
      'only plain iptables, of the nft variant',
      { 'iptables --version': { stdout: 'iptables v1.8.4 (nf_tables)' } },
      'nft',
    ],
    ['only plain iptables, legacy', { 'iptables --version': { stdout: 'iptables v1.8.11 (legacy)' } }, 'legacy'],
  ])('%s', async (_title, answers, variant) => {
    expect((await detectTools(machine(answers), 'IPv4')).variant).toBe(variant)
  })

  it('is not guessed when the legacy tables cannot be read', async () => {
    const answers = { ...both, 'iptables-legacy-save -t mangle': denied }
    await expect(detectTools(machine(answers), 'IPv4')).rejects.toMatchObject({ kind: 'denied' })
  })

  it('says what to install when there is none', async () => {
    await expect(detectTools(machine({}), 'IPv6')).rejects.toMatchObject({
      kind: 'unsupported',
      message: expect.stringContaining('ip6tables'),
    })
  })
})

describe('the choice of programs', () => {
  it('is made once, and after a failure again', async () => {
    let answers: Answers = {}
    let asked = 0
    const exec: Exec = {
      run: (command, args) => {
        asked += 1
        return machine(answers).run(command, args)
      },
    }
    const choice = toolChoice(exec, 'IPv4')
    await expect(choice.find()).rejects.toMatchObject({ kind: 'unsupported' })
    expect(choice.known).toBeUndefined()

    answers = both
    const found = await choice.find()
    const before = asked
    expect(await choice.find()).toBe(found)
    expect(choice.known).toBe(found)
    expect(asked).toBe(before)
  })

  it('does not fall back on a variant that was not asked for', async () => {
    const answers = { 'iptables --version': { stdout: 'iptables v1.8.9 (nf_tables)' } }
    await expect(toolChoice(machine(answers), 'IPv4', 'legacy').find()).rejects.toMatchObject({ kind: 'unsupported' })
  })
})

describe('a failed program', () => {
  const failed = (exitCode: number, stderr: string) =>
    failure('iptables-restore', { exitCode, stdout: '', stderr, notFound: false }).kind

  it.each([
    [4, 'Another app is currently holding the xtables lock. Stopped waiting after 5s.', 'transient'],
    [
      4,
      'iptables-nft-restore v1.8.9 (nf_tables): \nline 7: RULE_APPEND failed (Invalid argument): rule in chain X',
      'refused',
    ],
    [1, 'iptables-restore: line 20 failed', 'refused'],
    [1, "iptables-restore v1.8.9 (legacy): can't initialize iptables table `nat': Permission denied", 'denied'],
    [3, "iptables-restore: can't initialize iptables table `nat': Table does not exist", 'unsupported'],
    [-1, '', 'transient'],
  ])('exit %i, %s', (exitCode, stderr, kind) => {
    expect(failed(exitCode, stderr)).toBe(kind)
  })
})
