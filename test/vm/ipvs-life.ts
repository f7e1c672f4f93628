// IPVS on a kernel that has it: a node that kube-proxy's mode ipvs programmed is taken over, and what others do to our virtual
// servers, sets and addresses is put right. In a network namespace, with the built program:
//   hack/vm node_modules/.bin/node test/vm/ipvs-life.ts
import { deepStrictEqual, equal, ok } from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ipvsInputs } from '../support/kube-proxy/ipvs.ts'
import { clusters } from '../support/kube-proxy/leftovers.ts'
import { manifest } from '../support/switching/cluster.ts'

const root = resolve(import.meta.dirname, '../..')
const inside = '--inside'
const device = 'kube-ipvs0'

const run = (program: string, args: readonly string[], input?: string): string =>
  execFileSync(program, args, { encoding: 'utf8', ...(input === undefined ? {} : { input }) })
const linesOf = (text: string): string[] => text.split('\n').filter(line => line !== '')
const say = (line: string): boolean => process.stdout.write(`${line}\n`)

const objects = '/run/objects.json'
const node = [
  '--manifests',
  objects,
  '--hostname-override',
  'node-a',
  '--cluster-cidr',
  '10.244.0.0/16,fd00:10:244::/56',
]
const penstock = (...args: readonly string[]): number | null => {
  const { status, stderr } = spawnSync(process.execPath, [join(root, 'dist/penstock.js'), ...args], {
    encoding: 'utf8',
  })
  if (status !== 0) say(stderr)
  return status
}

/** What IPVS mode keeps, ours or kube-proxy's, without counters. */
function state(): string[] {
  const addresses = spawnSync('ip', ['-o', 'addr', 'show', 'dev', device], { encoding: 'utf8' }).stdout ?? ''
  const routes = ['-4', '-6'].map(family => run('ip', [family, 'route', 'show', 'table', 'local', 'proto', '112']))
  const rules = ['iptables-save', 'ip6tables-save'].map(tool => run(tool, []).replaceAll(/\[\d+:\d+\]|^#.*$/gm, ''))
  return [
    ...linesOf(run('ipvsadm', ['-Sn'])),
    ...linesOf(run('ipset', ['save'])),
    ...linesOf(addresses).filter(line => !line.includes('fe80:')),
    ...routes.flatMap(linesOf),
    ...rules.flatMap(linesOf).filter(line => /KUBE-|PENSTOCK/.test(line)),
  ].sort()
}

function applyKubeProxy(): void {
  for (const [index, cluster] of clusters(manifest).entries()) {
    const { ipset, link, addresses, ipvsadm, iptables } = ipvsInputs(cluster)
    run('ipset', ['restore'], ipset)
    if (index === 0) run('ip', ['-batch', '-'], link)
    run('ip', ['-batch', '-'], addresses)
    run('ipvsadm', ['--restore'], ipvsadm)
    run(cluster.family === 'IPv4' ? 'iptables-restore' : 'ip6tables-restore', ['--noflush'], iptables)
  }
}

function takesOver(mode: string): void {
  applyKubeProxy()
  ok(state().some(line => line.includes('KUBE-CLUSTER-IP')))
  equal(penstock('run', '--once', '--proxy-mode', mode, ...node), 0)
  deepStrictEqual(
    state().filter(line => line.includes('KUBE-')),
    [],
  )
  if (mode !== 'ipvs') deepStrictEqual(linesOf(run('ipvsadm', ['-Sn'])), [])
  equal(penstock('plan', '--proxy-mode', mode, ...node), 0)
  equal(penstock('cleanup'), 0)
  deepStrictEqual(state(), [])
  say(`ok: ${mode} takes over from kube-proxy's ipvs`)
}

async function mends(): Promise<void> {
  const [program = '', ...args] = [process.execPath, join(root, 'dist/penstock.js'), 'run', '--ipvs-sync-period=2s']
  const daemon = spawn(program, [...args, '--proxy-mode', 'ipvs', ...node], { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  daemon.stderr.setEncoding('utf8').on('data', (text: string) => {
    log += text
  })
  const until = async (what: string, isSo: () => boolean): Promise<void> => {
    for (let left = 120; left > 0; left--) {
      if (isSo()) return
      await sleep(1_000)
    }
    throw new Error(`waited in vain for ${what}:\n${log}`)
  }
  const synced = (): boolean => penstock('plan', '--proxy-mode', 'ipvs', ...node) === 0
  await until('the first sync', () => (log.match(/ synced /g)?.length ?? 0) >= 2)
  await until('the rules', synced)
  const whole = state()
  const [server = ''] = whole.filter(line => /^-a -t 10\./.test(line))
  const [, , address = ''] = server.split(' ')
  const damages: readonly (readonly [what: string, program: string, args: readonly string[]])[] = [
    ['all virtual servers', 'ipvsadm', ['-C']],
    ['one real server', 'ipvsadm', ['-d', '-t', address, '-r', server.split(' ')[4] ?? '']],
    ['one address', 'ip', ['route', 'del', 'local', address.split(':')[0] ?? '', 'table', 'local', 'proto', '112']],
    ['a set', 'ipset', ['flush', 'PENSTOCK-INTERNAL']],
    ['the rules of a table', 'iptables', ['-t', 'mangle', '-F']],
  ]
  for (const [what, tool, words] of damages) {
    const told = log.length
    run(tool, words)
    await until(`${what} to be put back`, () => state().join('\n') === whole.join('\n'))
    await until(`${what} to be told`, () => log.slice(told).includes('rules of ours'))
    say(`ok: ${what}: put back`)
  }
  const ended = new Promise(done => daemon.once('close', done))
  daemon.kill('SIGTERM')
  equal(await ended, 0)
  equal(penstock('cleanup'), 0)
  deepStrictEqual(state(), [])
}

if (process.argv.includes(inside)) {
  run('mount', ['-t', 'tmpfs', 'none', '/run'])
  run('ip', ['link', 'set', 'lo', 'up'])
  writeFileSync(objects, manifest)
  ok(readFileSync(join(root, 'dist/penstock.js')).length > 0)
  // Loads the module.
  run('ipvsadm', ['-Ln'])
  for (const mode of ['nftables', 'iptables', 'ipvs']) takesOver(mode)
  await mends()
} else {
  const { status } = spawnSync('unshare', ['-n', '-m', process.execPath, import.meta.filename, inside], {
    stdio: 'inherit',
  })
  process.exitCode = status ?? 1
}
