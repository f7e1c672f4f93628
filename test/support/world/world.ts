// The world with real packets: namespaces up, responders on the endpoints' addresses, probes from any source in it.
import { join } from 'node:path'
import type { IP } from '../../../src/net/ip.ts'
import { type Origin, originOf, world as places } from '../../conformance/world.ts'
import { Sandbox, type Worker } from '../netns/sandbox.ts'
import type { AgentMethods, Listener, Probe, ProbeResult, Spread } from './agent.ts'
import { configurations, links, type Namespace, namespaces, sysctlsOf } from './plan.ts'

/** The kinds of iptables a node can have. */
export type Variant = 'nft' | 'legacy'

/** Where packets of an origin are sent from. */
export function namespaceOf(origin: Origin): Namespace {
  switch (origin) {
    case 'node':
    case 'localhost':
      return 'node-a'
    case 'serving-pod':
      return 'pods-a'
    case 'asking-pod':
      return 'asks-a'
    case 'remote-pod':
    case 'other-node':
      return 'node-b'
    case 'outside':
      return 'router'
  }
}

export class World {
  readonly sandbox: Sandbox
  readonly #agents: ReadonlyMap<Namespace, Worker<AgentMethods>>
  #further: readonly IP[] = []

  private constructor(sandbox: Sandbox, agents: ReadonlyMap<Namespace, Worker<AgentMethods>>) {
    this.sandbox = sandbox
    this.#agents = agents
  }

  /**
   * Builds it, with the mark that kubelet leaves for others to see which variant of iptables the node uses. Throws where
   * the machine allows no namespaces.
   */
  static async open(variant: Variant): Promise<World> {
    const sandbox = await Sandbox.open()
    try {
      await sandbox.addNamespaces(namespaces)
      await Promise.all(namespaces.map(name => sandbox.configure(name, { sysctls: sysctlsOf(name) })))
      await sandbox.addLinks(links)
      await Promise.all(namespaces.map(name => sandbox.configure(name, configurations[name])))
      for (const tool of [`iptables-${variant}`, `ip6tables-${variant}`]) {
        await sandbox.check({ namespace: 'node-a', argv: [tool, '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT'] })
      }
      const module = join(import.meta.dirname, 'agent.ts')
      const started = namespaces.map(async name => {
        const agent = await sandbox.worker<AgentMethods>({ namespace: name, module })
        await agent.call('ready', undefined as never)
        return [name, agent] as const
      })
      return new World(sandbox, new Map(await Promise.all(started)))
    } catch (error) {
      await sandbox.close()
      throw error
    }
  }

  /** Gives node-a these addresses on its second device besides the world's, in place of those given before. */
  async setFurtherAddresses(addresses: readonly IP[]): Promise<void> {
    const gone = this.#further.filter(address => !addresses.includes(address))
    const added = addresses.filter(address => !this.#further.includes(address))
    this.#further = addresses
    if (gone.length + added.length === 0) return
    const host = (address: IP): string => (address.includes(':') ? `${address}/128` : `${address}/32`)
    await this.sandbox.configure('node-a', {
      ip: [
        ...gone.map(address => `addr del ${host(address)} dev dummy0`),
        ...added.map(address => `addr add ${host(address)} dev dummy0${address.includes(':') ? ' nodad' : ''}`),
      ],
    })
  }

  /** Answers on exactly these addresses and ports from now on. Throws for an address that nobody in the world has. */
  async serve(listeners: readonly Listener[]): Promise<void> {
    const by = new Map<Namespace, Listener[]>(namespaces.map(name => [name, []]))
    for (const listener of listeners) {
      by.get(namespaceOf(originOf(listener.address as IP, this.#further)))?.push(listener)
    }
    await Promise.all([...by].map(([name, of]) => this.#agent(name).call('serve', { listeners: of })))
  }

  probe(origin: Origin, probe: Probe): Promise<ProbeResult> {
    return this.#agent(namespaceOf(origin)).call('probe', probe)
  }

  spread(origin: Origin, spread: Spread): Promise<readonly ProbeResult[]> {
    return this.#agent(namespaceOf(origin)).call('spread', spread)
  }

  /** True for the addresses that a masqueraded packet can bear. */
  ownsAddress(address: string): boolean {
    return [...places.nodeAddresses, ...this.#further].some(own => own === address)
  }

  /** Forgets the flows of node-a, so that a new probe is a new flow. */
  async forgetFlows(): Promise<void> {
    await this.sandbox.exec({ namespace: 'node-a', argv: ['conntrack', '-F'] })
  }

  async close(): Promise<void> {
    await this.sandbox.close()
  }

  #agent(name: Namespace): Worker<AgentMethods> {
    const agent = this.#agents.get(name)
    if (agent === undefined) throw new Error(`the world has no namespace ${name}`)
    return agent
  }
}
