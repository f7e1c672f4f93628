// What others do to the table is seen and mended, by scripts that nft takes.
import { beforeEach, describe, expect, it, test } from 'vitest'
import { CommitError, type KernelObject } from '../../../src/backend/backend.ts'
import { nftablesBackend } from '../../../src/backend/nftables/index.ts'
import type { Family, IP } from '../../../src/net/ip.ts'
import type { Network } from '../../../src/policy/network.ts'
import type { Endpoint, ServicePort } from '../../../src/policy/service-port.ts'
import { DesiredProgram } from '../../../src/sync/program.ts'
import { StrictNft } from '../../support/strict-nft/strict-nft.ts'

const { signal } = new AbortController()

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

const addressOf = (family: Family, host: number): IP => (family === 'IPv4' ? `10.0.0.${host}` : `fd00::${host}`) as IP

function servicePort(family: Family, name: string, host: number, affinitySeconds?: number): ServicePort {
  const endpoints = [1, 2, 3].map(
    (pod): Endpoint => ({ address: addressOf(family, pod), port: 8080, isLocal: true, isTerminating: false }),
  )
  const chosen = { kind: 'endpoints' as const, endpoints }
  return {
    service: name,
    name,
    protocol: 'TCP',
    frontends: [{ kind: 'ClusterIP', address: addressOf(family, host), port: 80, traffic: 'internal' }],
    internal: chosen,
    external: chosen,
    externalFromNode: chosen,
    externalMasquerade: false,
    ...(affinitySeconds === undefined ? {} : { affinitySeconds }),
    healthCheckNodePort: 0,
  }
}

const asText = (objects: Iterable<readonly [string, string]>): string[] =>
  [...objects].map(([key, value]) => `${key}\n${value}`).sort()

describe.each<Family>(['IPv4', 'IPv6'])('%s', family => {
  const table = `${family === 'IPv4' ? 'ip' : 'ip6'} penstock`
  const frontend = `${addressOf(family, 96)} . tcp . 80`
  let nft: StrictNft
  let program: DesiredProgram
  const backendOf = (machine: StrictNft) => nftablesBackend({ family, exec: machine })
  const settle = async (): Promise<void> => {
    await backendOf(nft).commit(backendOf(nft).plan(program.pending(), program.objects), signal)
    program.settle()
  }
  const owned = (owner: string, objects: Iterable<KernelObject>): void => program.replace(owner, objects)

  beforeEach(async () => {
    nft = new StrictNft()
    program = new DesiredProgram()
    owned('skeleton', backendOf(nft).skeleton(network(family)))
    owned('plain', backendOf(nft).compile(servicePort(family, 'ns/plain', 96), network(family)))
    owned('affinity', backendOf(nft).compile(servicePort(family, 'ns/sticky', 97, 60), network(family)))
    await settle()
  })

  it.each([
    `delete element ${table} endpoints { ${frontend} . 1 }`,
    `delete element ${table} services { ${frontend} }\nadd element ${table} services { ${frontend} : drop }`,
    `delete element ${table} cluster-ips { ${addressOf(family, 96)} }`,
    `delete element ${table} octets { 0x7 . 0x7 }`,
    `flush chain ${table} service/ns/sticky/tcp`,
    `insert rule ${table} services accept`,
    `flush chain ${table} pick-1`,
    `flush chain ${table} prerouting\nflush chain ${table} output`,
    `add chain ${table} foreign\nadd rule ${table} foreign drop`,
    `add element ${table} endpoints { ${frontend} . 4000000000 : ${addressOf(family, 1)} . 80 }`,
    `add set ${table} foreign { type inet_service; }\nadd element ${table} foreign { 80, 443 }`,
    `delete table ${table}`,
    `delete table ${table}\nadd table ${table}\nadd map ${table} services { type inet_proto . inet_service : verdict; }`,
    `delete table ${table}\nadd table ${table}\nadd chain ${table} output { type filter hook output priority 0; policy drop; }`,
  ])('%s', async damage => {
    expect(nft.apply(damage)).toMatchObject({ ok: true })
    program.rebase(await backendOf(nft).read(signal))
    const { added, changed, removed } = program.pending()
    expect(added.length + changed.length + removed.length).toBeGreaterThan(0)
    await settle()
    expect(asText(await backendOf(nft).read(signal))).toEqual(asText(program.objects))
    expect(nft.list(table)).not.toContain('foreign')
  })

  test('what the kernel refuses changes nothing, and is named', async () => {
    const before = nft.listAll()
    nft.refuse(line => line.startsWith(`add rule ${table} service/ns/new/tcp `))
    owned('new', backendOf(nft).compile(servicePort(family, 'ns/new', 98, 60), network(family)))
    const refusal = await settle().catch((error: unknown) => error)
    expect(refusal).toBeInstanceOf(CommitError)
    expect(refusal).toMatchObject({ kind: 'refused', keys: ['chain service/ns/new/tcp'] })
    expect(nft.listAll()).toBe(before)
    nft.refuse(() => false)
    await settle()
    expect(asText(await backendOf(nft).read(signal))).toEqual(asText(program.objects))
  })
})
