// The program at the command line: what it prints, where, and with which exit status. No kernel is needed.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { version } from '../../src/version.ts'
import { manifest, manyServices, serviceObjects } from './manifests.ts'
import { bundle, type Ended, runFile, sources } from './program.ts'

let directory: string
let program: string
const penstock = (args: readonly string[], options: { cwd: string; input?: string }): Promise<Ended> =>
  runFile(program, args, options)
const run = (...args: readonly string[]): Promise<Ended> => penstock(args, { cwd: directory })
const write = (name: string, text: string): Promise<void> => writeFile(join(directory, name), text)

const web = manifest(serviceObjects('web', '10.96.0.20', ['10.244.1.11', '10.244.1.12']))
const packet = { src: '10.244.1.100', dst: '10.96.0.20', port: 80, protocol: 'tcp' }
const fromPod = ['--src', packet.src, '--dst', packet.dst, '--port', '80']

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'penstock-commands-'))
  program = await bundle(directory)
  await write('web.yaml', web)
  await write('empty.yaml', manifest(serviceObjects('empty', '10.96.0.21', [])))
})
afterAll(async () => {
  await rm(directory, { recursive: true, force: true })
})

describe('compile', () => {
  it('prints what iptables-restore would be given, for both families', async () => {
    const { status, stdout, stderr } = await run('compile', '--manifests', 'web.yaml')
    expect(status).toBe(0)
    expect(stderr).toBe('')
    expect(stdout).toMatch(/^# IPv4, iptables: \d+ objects\n\*filter\n/)
    expect(stdout).toContain('\n# IPv6, iptables: ')
    expect(stdout).toContain('-j DNAT --to-destination 10.244.1.12:8080\n')
    expect(stdout.endsWith('COMMIT\n')).toBe(true)
  })

  it('prints one JSON document with -o json, and nothing else', async () => {
    const { status, stdout, stderr } = await run('compile', '-o', 'json', '--manifests', 'web.yaml')
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    const document = JSON.parse(stdout)
    expect(document).toMatchObject({ mode: 'iptables', families: [{ family: 'IPv4' }, { family: 'IPv6' }] })
    const keys: string[] = document.families[0].objects.map(({ key }: { key: string }) => key)
    expect(keys).toEqual([...keys].sort())
    expect(keys).toContain('nat/PENSTOCK-SERVICES')
  })

  it('prints the same whatever the order of files and whoever asks', async () => {
    const [one, other] = await Promise.all([
      run('compile', '-o', 'json', '--manifests', 'web.yaml', '--manifests', 'empty.yaml'),
      run('compile', '-o', 'json', '--manifests', 'empty.yaml', '--manifests', 'web.yaml', '--hostname-override', 'x'),
    ])
    expect(one.stdout).toBe(other.stdout)
    expect(one.stdout).toContain('REJECT')
  })

  it('reads manifests from standard input, and prints large programs whole', async () => {
    const input = manifest(manyServices(1_000))
    const { status, stdout } = await penstock(['compile', '--manifests', '-', '-o', 'json'], { cwd: directory, input })
    expect(status).toBe(0)
    expect(stdout.length).toBeGreaterThan(200_000)
    expect(JSON.parse(stdout).families[0].objects.length).toBeGreaterThan(1_000)
  })
})

describe('trace', () => {
  it('says where a packet goes, and by which rules', async () => {
    const { status, stdout, stderr } = await run('trace', '--manifests', 'web.yaml', ...fromPod)
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    const lines = stdout.split('\n')
    expect(lines[0]).toBe('TCP 10.244.1.100 → 10.96.0.20:80: dnat (shop/web:http), source kept')
    expect(lines.slice(1, 3)).toEqual(['  10.244.1.11:8080  50.0 %', '  10.244.1.12:8080  50.0 %'])
    expect(lines[3]).toMatch(/^ {4}nat PREROUTING: /)
  })

  it('answers one packet with one JSON object in the agreed form', async () => {
    const { status, stdout } = await run('trace', '-o', 'json', '--manifests', 'web.yaml', ...fromPod)
    expect(status).toBe(0)
    const answer = JSON.parse(stdout)
    expect(Object.keys(answer).sort()).toEqual(['endpoints', 'masquerade', 'packet', 'path', 'servicePort', 'verdict'])
    expect(answer).toMatchObject({
      packet,
      verdict: 'dnat',
      endpoints: [
        { address: '10.244.1.11:8080', probability: 0.5 },
        { address: '10.244.1.12:8080', probability: 0.5 },
      ],
      masquerade: false,
      servicePort: 'shop/web:http',
    })
    expect(answer.path[0]).toMatchObject({ table: 'nat', chain: 'PREROUTING' })
  })

  it('takes packets from standard input and answers with an array in their order', async () => {
    const packets = [
      packet,
      { ...packet, dst: '10.96.0.21' },
      { ...packet, dst: '10.96.0.22' },
      { ...packet, port: 81 },
    ]
    const input = JSON.stringify(packets)
    const args = ['trace', '-o', 'json', '--manifests', 'web.yaml', '--manifests', 'empty.yaml', '--packets', '-']
    const { status, stdout, stderr } = await penstock(args, { cwd: directory, input })
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    const answers: { packet: unknown; verdict: string; servicePort: string | null }[] = JSON.parse(stdout)
    expect(answers.map(answer => answer.packet)).toEqual(packets)
    expect(answers.map(({ verdict }) => verdict)).toEqual(['dnat', 'reject', 'none', 'none'])
    expect(answers[2]?.servicePort).toBeNull()
  })

  it('answers an array of one with an array of one, and from a file too', async () => {
    await write('packets.json', JSON.stringify([packet]))
    const { stdout } = await run('trace', '-o', 'json', '--manifests', 'web.yaml', '--packets', 'packets.json')
    expect(JSON.parse(stdout)).toHaveLength(1)
  })

  it('takes a source that is an address of the host for the host', async () => {
    const args = ['trace', '-o', 'json', '--manifests', 'web.yaml', '--cluster-cidr', '10.244.0.0/16']
    const fromHost = ['--src', '192.168.7.7', '--dst', packet.dst, '--port', '80']
    const [own, other] = await Promise.all([
      run(...args, ...fromHost, '--node-address', '192.168.7.7'),
      run(...args, ...fromHost, '--node-address', '192.168.7.8'),
    ])
    expect(JSON.parse(own.stdout)).toMatchObject({ verdict: 'dnat', masquerade: true })
    expect(JSON.parse(own.stdout).path[0].chain).toBe('OUTPUT')
    expect(JSON.parse(other.stdout).path[0].chain).toBe('PREROUTING')
  })

  it.each([
    ['no array', '{}', 'expected a JSON array of packets'],
    ['no JSON', '[', '--packets: standard input: '],
    ['a bad address', '[{"src":"10.0.0.1","dst":"10.0.0.300","port":80}]', '[0].dst: expected an IP address'],
    ['a bad port', '[{"src":"10.0.0.1","dst":"10.0.0.3","port":0}]', '[0].port: expected an integer from 1 to 65535'],
    [
      'a bad protocol',
      '[{"src":"10.0.0.1","dst":"10.0.0.3","port":1,"protocol":"icmp"}]',
      '[0].protocol: expected tcp',
    ],
    ['mixed families', '[{"src":"10.0.0.1","dst":"::1","port":1}]', 'different address families'],
  ])('refuses %s in --packets with the place at fault', async (_, input, message) => {
    const args = ['trace', '--manifests', 'web.yaml', '--packets', '-']
    const { status, stdout, stderr } = await penstock(args, { cwd: directory, input })
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
    expect(stderr).toContain(message)
    expect(stderr.trim().split('\n')).toHaveLength(1)
  })
})

describe('bad usage', () => {
  it.each([
    [['compile', '--bogus'], '--bogus: unknown flag'],
    [['frobnicate'], '"frobnicate": unknown subcommand'],
    [['trace', '--manifests', 'web.yaml'], 'trace needs --src, --dst'],
    [['compile', '-o', 'xml', '--manifests', 'web.yaml'], '--output'],
    [['trace', ...fromPod, '--protocol', 'icmp'], '--protocol'],
    [['compile', '--once'], '--once'],
    [['run', 'away'], '"away"'],
  ])('%j ends with status 2 and one sentence', async (args, message) => {
    const { status, stdout, stderr } = await run(...args)
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toMatch(/^penstock: /)
    expect(stderr).toContain(message)
    expect(stderr.trim().split('\n')).toHaveLength(1)
  })
})

const configuration = (lines: string): string =>
  `apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n${lines}\n`

describe('what cannot be used', () => {
  it.each([
    ['a value out of range', 'iptables: { masqueradeBit: 77 }', 'iptables.masqueradeBit'],
    ['an unknown field', 'iptables: { masqeradeAll: true }', 'iptables.masqeradeAll'],
    ['a wrong type', 'clusterCIDR: [1]', 'clusterCIDR'],
    ['a mode without a backend', 'mode: kernelspace', 'mode'],
  ])('%s in the configuration ends with status 1 and names the field', async (_, lines, field) => {
    await write('config.yaml', configuration(lines))
    const { status, stdout, stderr } = await run('compile', '--config', 'config.yaml', '--manifests', 'web.yaml')
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
    expect(stderr).toContain(field)
    expect(stderr).not.toMatch(/\n\s+at /)
  })

  it.each([
    ['is not YAML', 'kind: Service\nmetadata: [', 'bad.yaml: document 1, line 2'],
    ['is not there', undefined, 'missing.yaml'],
  ])('a manifest that %s ends with status 1 and names the file', async (_, text, place) => {
    if (text !== undefined) await write('bad.yaml', text)
    const { status, stdout, stderr } = await run('compile', '--manifests', place.split(':')[0] ?? '')
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
    expect(stderr).toContain(place)
    expect(stderr).not.toMatch(/\n\s+at /)
  })

  it('no source of objects at all is said in one sentence', async () => {
    const { status, stdout, stderr } = await run('compile')
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
    expect(stderr).toMatch(/^penstock: no API server is given: use --kubeconfig, --master or --manifests/)
  })
})

describe('--write-config-to', () => {
  it('writes what is in force, from which the same comes out again', async () => {
    await write('config.yaml', configuration('clusterCIDR: 10.1.0.0/16\niptables: { minSyncPeriod: 3s }'))
    const first = await run('--config', 'config.yaml', '--write-config-to', 'one.yaml')
    expect(first).toEqual({ status: 0, stdout: '', stderr: '' })
    const text = await readFile(join(directory, 'one.yaml'), 'utf8')
    expect(text).toContain('kind: KubeProxyConfiguration')
    expect(text).toContain('clusterCIDR: 10.1.0.0/16')
    expect(text).toContain('minSyncPeriod: 3s')
    const second = await run('--config', 'one.yaml', '--write-config-to', 'two.yaml')
    expect(second.status).toBe(0)
    expect(await readFile(join(directory, 'two.yaml'), 'utf8')).toBe(text)
  })

  it('ends with status 1 when the file cannot be written', async () => {
    const { status, stderr } = await run('--write-config-to', 'no/such/directory/config.yaml')
    expect(status).toBe(1)
    expect(stderr).toContain('no/such/directory/config.yaml')
  })
})

describe('version and help', () => {
  it.each([[['version']], [['--version']]])('%j prints the version', async args => {
    expect(await run(...args)).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' })
  })

  it.each([[['help']], [['--help']], [['trace', '--help']]])('%j goes to stdout', async args => {
    const { status, stdout, stderr } = await run(...args)
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toContain('Usage: penstock')
  })
})

it('runs from its sources as it is', async () => {
  const [own, built] = await Promise.all(
    [sources, program].map(file => runFile(file, ['compile', '--manifests', 'web.yaml'], { cwd: directory })),
  )
  expect(own).toEqual(built)
})
