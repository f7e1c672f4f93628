// Service ports for benchmarks of the backends, and backends whose pure half alone is used.
import type { Backend } from '../../src/backend/backend.ts'
import { backendFor } from '../../src/backend/registry.ts'
import type { Endpoint, EndpointChoice, ServicePort } from '../../src/policy/service-port.ts'
import { ip } from '../model/build.ts'

export const modes = ['iptables', 'nftables', 'ipvs'] as const

/** A backend that may start no program. */
export function pureBackend(mode: (typeof modes)[number]): Backend {
  const run = (command: string): never => {
    throw new Error(`${command} was started`)
  }
  const backend = backendFor(mode, { family: 'IPv4', exec: { run } })
  if (backend === undefined) throw new Error(`there is no backend ${mode}`)
  return backend
}

/** Service port number n, with a cluster address and so many endpoints, at `port`. */
export function servicePort(n: number, count: number, port: number): ServicePort {
  const endpoints = Array.from({ length: count }, (_, place): Endpoint => {
    const at = n * count + place
    const address = ip(`10.${128 + ((at >> 16) & 63)}.${(at >> 8) & 255}.${at & 255}`)
    return { address, port, isLocal: place === 0, isTerminating: false }
  })
  const all: EndpointChoice = { kind: 'endpoints', endpoints }
  return {
    service: `bench/app-${n}`,
    name: `bench/app-${n}:http`,
    protocol: 'TCP',
    frontends: [{ kind: 'ClusterIP', address: ip(`10.96.${n >> 8}.${n & 255}`), port: 80, traffic: 'internal' }],
    internal: all,
    external: { kind: 'reject' },
    externalFromNode: { kind: 'reject' },
    externalMasquerade: true,
    healthCheckNodePort: 0,
  }
}
