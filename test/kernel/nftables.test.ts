// The nftables backend against the real kernel, in network namespaces, by nft and by netlink: what is written is accepted and
// read back equal, and what one writes the other reads as its own. The scenarios are in strict-nft.test.ts.
import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Backend } from '../../src/backend/backend.ts'
import { nftablesBackend } from '../../src/backend/nftables/index.ts'
import type { Exec } from '../../src/kernel/exec.ts'
import { type Family, type IP, parseCIDR } from '../../src/net/ip.ts'
import type { Network } from '../../src/policy/network.ts'
import type { Endpoint, EndpointChoice, Frontend, ServicePort } from '../../src/policy/service-port.ts'
import { DesiredProgram } from '../../src/sync/program.ts'
import { listedLines } from '../backend/nftables/listing-lines.ts'
import { backendWorker, remoteBackend } from '../backend/nftables/remote.ts'
import type { BackendMethods } from '../backend/nftables/worker.ts'
import { inputOf } from '../support/input.ts'
import { Sandbox, type Worker } from '../support/netns/sandbox.ts'

/** By what the backend writes and reads; each in a namespace of its own. */
const ways = ['nft', 'netlink'] as const
type Way = (typeof ways)[number]

let sandbox: Sandbox
let worker: Worker<BackendMethods>

const execIn = (namespace: Way): Exec => ({
  async run(command, args, options = {}) {
    const input = (await inputOf(options)) ?? ''
    const outcome = await sandbox.exec({ namespace, argv: [command, ...args], input })
    return { ...outcome, notFound: false }
  },
})
const { signal } = new AbortController()
const backendOf = (way: Way, family: Family): Backend =>
  way === 'nft' ? nftablesBackend({ family, exec: execIn('nft') }) : remoteBackend(() => worker, family)

beforeAll(async () => {
  sandbox = await Sandbox.open()
  await sandbox.addNamespaces(ways)
  worker = await backendWorker(sandbox, 'netlink')
})
afterAll(async () => {
  await sandbox?.close()
})
beforeEach(async () => {
  for (const way of ways) await sandbox.check({ namespace: way, argv: ['nft', 'flush', 'ruleset'] })
})

const nft = (namespace: Way, script: string): Promise<string> =>
  sandbox.check({ namespace, argv: ['nft', '-f', '-'], input: script })

/** What nft lists, elements one a line in an order of their own. */
async function listing(namespace: Way): Promise<readonly string[]> {
  const text = await sandbox.check({ namespace, argv: ['nft', '-n', 'list', 'ruleset'] })
  return listedLines(text)
}

const asText = (program: ReadonlyMap<string, string>): string[] =>
  [...program].map(([key, value]) => `${key}\n${value}`).sort()

const network = (family: Family): Network => ({
  family,
  detector: { kind: 'interface-prefix', prefix: 'veth' },
  masqueradeAll: false,
  masqueradeMark: 0x4000,
  nodePortAddresses: { kind: 'all' },
  localhostNodePorts: false,
  dropInvalid: true,
  nodeAddresses: [],
})

/** Networks of every kind. */
function networksOf(family: Family): Network[] {
  const cidrs = ['192.168.0.0/16', '192.168.3.0/24', '172.16.0.0/12', 'fd00:7::/32', 'fd00:7:1::/48'].flatMap(text => {
    const cidr = parseCIDR(text)
    return cidr === undefined || text.includes(':') !== (family === 'IPv6') ? [] : [cidr]
  })
  const [first] = cidrs
  if (first === undefined) throw new Error('there is a CIDR of each family')
  const changes: Partial<Network>[] = [
    {},
    { masqueradeAll: true },
    { masqueradeMark: 0x80000000 },
    { masqueradeMark: 1, detector: { kind: 'source-cidr', cidr: first } },
    { detector: { kind: 'interface', name: 'cbr0' }, serviceCIDRs: cidrs },
    { detector: { kind: 'none' }, nodePortAddresses: { kind: 'cidrs', cidrs }, serviceCIDRs: [first] },
  ]
  return changes.map(change => ({ ...network(family), ...change }))
}

const address = (family: Family, area: number, host: number): IP =>
  (family === 'IPv4'
    ? `10.${area}.${host >> 8}.${host & 255}`
    : `fd00:${area.toString(16)}::${(host + 1).toString(16)}`) as IP

const choiceOf = (family: Family): fc.Arbitrary<EndpointChoice> => {
  const endpoint = (host: number): Endpoint => ({
    address: address(family, 1, host),
    port: 8080 + (host % 3),
    isLocal: host % 2 === 0,
    isTerminating: false,
  })
  const hosts = fc.oneof(
    { weight: 4, arbitrary: fc.uniqueArray(fc.nat(40), { minLength: 1, maxLength: 6 }) },
    { weight: 1, arbitrary: fc.uniqueArray(fc.nat(400), { minLength: 33, maxLength: 120 }) },
  )
  return fc.oneof(
    fc.record({ kind: fc.constantFrom('reject' as const, 'drop' as const) }),
    hosts.map(list => ({ kind: 'endpoints' as const, endpoints: list.sort((a, b) => a - b).map(endpoint) })),
    hosts.map(list => ({ kind: 'endpoints' as const, endpoints: list.sort((a, b) => a - b).map(endpoint) })),
  )
}

const servicePortOf = (family: Family): fc.Arbitrary<ServicePort> =>
  fc
    .record({
      index: fc.nat(5),
      choices: fc.tuple(choiceOf(family), choiceOf(family), choiceOf(family)),
      masquerade: fc.boolean(),
      affinity: fc.option(fc.constantFrom(10, 10_800, 86_400)),
      kinds: fc.uniqueArray(fc.constantFrom('NodePort', 'ExternalIP', 'LoadBalancer' as const)),
      ranges: fc.option(
        fc.array(fc.tuple(fc.nat(300), fc.constantFrom(20, 24, 30, 32)), { minLength: 1, maxLength: 5 }),
      ),
    })
    .map(({ index, choices: [internal, external, fromNode], masquerade, affinity, kinds, ranges }) => {
      const cidrs = (ranges ?? []).map(([host, prefix]) => parseCIDR(`${address(family, 9, host)}/${prefix}`))
      const sourceRanges = cidrs.filter(cidr => cidr !== undefined)
      const frontends: Frontend[] = [
        { kind: 'ClusterIP', address: address(family, 96, index), port: 80, traffic: 'internal' },
        ...kinds.map(
          (kind): Frontend =>
            kind === 'NodePort'
              ? { kind, address: 'node-ports', port: 30_000 + index, traffic: 'external' }
              : {
                  kind: 'LoadBalancer',
                  address: address(family, kind === 'LoadBalancer' ? 97 : 98, index),
                  port: 80,
                  traffic: 'external',
                  ...(sourceRanges.length > 0 ? { sourceRanges } : {}),
                },
        ),
      ]
      return {
        service: `ns/s${index}`,
        name: `ns/s${index}${index % 2 === 0 ? ':http' : ''}`,
        protocol: index === 3 ? ('UDP' as const) : index === 4 ? ('SCTP' as const) : ('TCP' as const),
        frontends,
        internal,
        external,
        externalFromNode: masquerade ? external : fromNode,
        externalMasquerade: masquerade,
        ...(affinity === null ? {} : { affinitySeconds: affinity }),
        healthCheckNodePort: 0,
      }
    })

async function settle(program: DesiredProgram, backend: Backend): Promise<void> {
  await backend.commit(backend.plan(program.pending(), program.objects), signal)
  program.settle()
}

describe.each<Family>(['IPv4', 'IPv6'])('%s, netlink and nft', family => {
  const byNetlink = backendOf('netlink', family)
  const byNft = backendOf('nft', family)
  /** What netlink wrote, read by nft; and the other way round. */
  const netlinkByNft = nftablesBackend({ family, exec: execIn('netlink') })

  test('write the same, and read what the other wrote', async () => {
    const changes = fc.array(fc.tuple(fc.boolean(), servicePortOf(family)), { minLength: 1, maxLength: 5 })
    const networks = fc.constantFrom(...networksOf(family))
    const reader = await backendWorker(sandbox, 'nft')
    const nftByNetlink = remoteBackend(() => reader, family)
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(networks, changes), { minLength: 1, maxLength: 3 }), async batches => {
        for (const backend of [byNetlink, byNft]) await backend.cleanup(signal)
        const program = new DesiredProgram()
        for (const [network, batch] of batches) {
          program.replace('skeleton', byNft.skeleton(network))
          for (const [present, port] of batch) {
            program.replace(port.name, present ? byNft.compile(port, network) : [])
          }
          const delta = program.pending()
          for (const backend of [byNetlink, byNft]) {
            await backend.commit(backend.plan(delta, program.objects), signal)
          }
          program.settle()
          expect(await listing('netlink')).toEqual(await listing('nft'))
          const wanted = asText(program.objects)
          for (const backend of [byNetlink, byNft, netlinkByNft, nftByNetlink]) {
            expect(asText(await backend.read(signal))).toEqual(wanted)
          }
        }
      }),
      { numRuns: 25, seed: 20_261_122 },
    )
  })
})

const cases = ways.flatMap(way => (['IPv4', 'IPv6'] as const).map(family => [way, family] as const))

describe.each(cases)('by %s, %s', (way, family) => {
  const backend = backendOf(way, family)

  test('random Services that come, change and go', async () => {
    const changes = fc.array(fc.tuple(fc.boolean(), servicePortOf(family)), { minLength: 1, maxLength: 5 })
    await fc.assert(
      fc.asyncProperty(fc.array(changes, { minLength: 1, maxLength: 4 }), async batches => {
        await backend.cleanup(signal)
        const program = new DesiredProgram()
        program.replace('skeleton', backend.skeleton(network(family)))
        for (const batch of batches) {
          for (const [present, port] of batch) {
            program.replace(port.name, present ? backend.compile(port, network(family)) : [])
          }
          await settle(program, backend)
          expect(asText(await backend.read(signal))).toEqual(asText(program.objects))
        }
      }),
      { numRuns: 40, seed: 20_261_121 },
    )
  })

  test('every kind of network', async () => {
    const program = new DesiredProgram()
    for (const network of networksOf(family)) {
      program.replace('skeleton', backend.skeleton(network))
      await settle(program, backend)
      expect(asText(await backend.read(signal)), JSON.stringify(network)).toEqual(asText(program.objects))
    }
  })

  test('what somebody else changes is seen and mended, and clients that are remembered are no difference', async () => {
    const program = new DesiredProgram()
    program.replace('skeleton', backend.skeleton(network(family)))
    const [port] = fc.sample(
      servicePortOf(family).filter(
        ({ internal, affinitySeconds, frontends }) =>
          internal.kind === 'endpoints' && affinitySeconds !== undefined && frontends.length === 4,
      ),
      { numRuns: 1, seed: 7 },
    )
    if (port === undefined || port.internal.kind !== 'endpoints') throw new Error('a sample has endpoints')
    const plain: ServicePort = {
      ...port,
      name: 'ns/plain',
      frontends: [{ kind: 'ClusterIP', address: address(family, 99, 1), port: 80, traffic: 'internal' }],
      internal: { kind: 'endpoints', endpoints: port.internal.endpoints.slice(0, 3) },
    }
    const { affinitySeconds: _, ...withoutAffinity } = plain
    program.replace('affinity', backend.compile(port, network(family)))
    program.replace('plain', backend.compile(withoutAffinity, network(family)))
    await settle(program, backend)

    const table = `${family === 'IPv4' ? 'ip' : 'ip6'} penstock`
    const dynamic = [...program.objects.keys()].find(key => key.startsWith('set aff-'))?.slice('set '.length)
    await nft(way, `add element ${table} ${dynamic} { ${address(family, 9, 1)}, ${address(family, 9, 2)} }`)
    program.rebase(await backend.read(signal))
    expect(program.pending()).toEqual({ added: [], changed: [], removed: [] })

    const service = `${address(family, 99, 1)} . tcp . 80`
    const chain = [...program.objects.keys()].find(key => key.startsWith('chain service/'))?.slice('chain '.length)
    const damages = [
      `delete element ${table} endpoints { ${service.replace('tcp', port.protocol.toLowerCase())} . 0 }`,
      `delete element ${table} cluster-ips { ${address(family, 99, 1)} }`,
      `delete element ${table} octets { 0x7 . 0x7 }`,
      `flush chain ${table} ${chain}`,
      `insert rule ${table} services accept`,
      `flush chain ${table} pick-1`,
      `add chain ${table} foreign\nadd rule ${table} foreign counter`,
      `add element ${table} endpoints { ${address(family, 99, 77)} . tcp . 80 . 4000000000 : ${address(family, 1, 1)} . 80 }`,
      `add set ${table} foreign { type inet_service; flags interval; elements = { 80-90, 100 } }`,
      `delete table ${table}`,
    ]
    for (const damage of damages) {
      await nft(way, damage)
      program.rebase(await backend.read(signal))
      const { added, changed, removed } = program.pending()
      expect(added.length + changed.length + removed.length, damage).toBeGreaterThan(0)
      await settle(program, backend)
      expect(asText(await backend.read(signal)), damage).toEqual(asText(program.objects))
    }
  })

  test('a refusal names the object', async () => {
    const program = new DesiredProgram()
    program.replace('skeleton', backend.skeleton(network(family)))
    await settle(program, backend)
    program.replace('good', [{ key: 'chain external/a/good/tcp', value: 'drop' }])
    program.replace('bad', [
      { key: 'chain external/a/bad/tcp', value: 'masquerade fully-random\ndrop' },
      { key: 'element node-ports tcp . 30000', value: 'comment "a/bad" : goto external/a/bad/tcp' },
    ])
    const commit = backend.commit(backend.plan(program.pending(), program.objects), signal)
    // The kernel finds only when it looks at the whole that masquerading is reached from prerouting, and names nothing.
    await expect(commit).rejects.toMatchObject({ kind: 'refused' })
    program.replace('bad', [{ key: 'element node-ports tcp . 30000', value: 'comment "a/bad" : goto nowhere' }])
    await expect(backend.commit(backend.plan(program.pending(), program.objects), signal)).rejects.toMatchObject({
      kind: 'refused',
      keys: ['element node-ports tcp . 30000'],
    })
    program.replace('bad', [])
    await settle(program, backend)
    expect(asText(await backend.read(signal))).toEqual(asText(program.objects))
  })
})
