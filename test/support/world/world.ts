// The world with real packets: namespaces up, responders on the endpoints' addresses, probes from any source in it.
import { join } from 'node:path'
import type { IP } from '../../../src/net/ip.ts'
import { type Origin, originOf, world as places } from '../../conformance/world.ts'
import { Sandbox, type Worker } from '../netns/sandbox.ts'
import type { AgentMethods, Listener, ProbeResult, Spread } from './agent.ts'
import { configurations, links, type Namespace, namespaces, sysctlsOf } from './plan.ts'
import type { SubjectMethods } from './subject.ts'

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

/** A packet's source, and what is sent from there how often. */
export interface Question extends Spread {
  readonly origin: Origin
}

/** What a kind of node takes of the machine besides the world itself. */
export interface Needs {
  /** Kernel modules that must be there before the settings are. */
  readonly modules?: readonly string[]
  /** Settings of node-a, by their path below /proc/sys. */
  readonly sysctls?: Readonly<Record<string, string>>
}

export class World {
  readonly sandbox: Sandbox
  /** Five processes: only for who has something to ask. */
  #agents: Promise<ReadonlyMap<Namespace, Worker<AgentMethods>>> | undefined
  #further: readonly IP[] = []

  private constructor(sandbox: Sandbox) {
    this.sandbox = sandbox
  }

  /**
   * Builds it, with the mark that kubelet leaves for others to see which variant of iptables the node uses. Throws where
   * the machine allows no namespaces, or lacks what is needed.
   */
  static async open(variant: Variant, { modules = [], sysctls = {} }: Needs = {}): Promise<World> {
    const sandbox = await Sandbox.open()
    try {
      for (const module of modules) await sandbox.check({ argv: ['modprobe', module] })
      await sandbox.addNamespaces(namespaces)
      const settingsOf = (name: Namespace) => ({ ...sysctlsOf(name), ...(name === 'node-a' ? sysctls : {}) })
      await Promise.all(namespaces.map(name => sandbox.configure(name, { sysctls: settingsOf(name) })))
      await sandbox.addLinks(links)
      await Promise.all(namespaces.map(name => sandbox.configure(name, configurations[name])))
      for (const tool of [`iptables-${variant}`, `ip6tables-${variant}`]) {
        await sandbox.check({ namespace: 'node-a', argv: [tool, '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT'] })
      }
      return new World(sandbox)
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
    const by = Map.groupBy(listeners, ({ address }) => namespaceOf(originOf(address as IP, this.#further)))
    const agents = await this.#startAgents()
    await Promise.all([...agents].map(([name, agent]) => agent.call('serve', { listeners: by.get(name) ?? [] })))
  }

  /** Sends everything, at most `parallel` at once from one place; results in the order of the questions. */
  async ask(questions: readonly Question[], parallel: number): Promise<readonly (readonly ProbeResult[])[]> {
    const agents = await this.#startAgents()
    const results: (readonly ProbeResult[])[] = []
    const by = Map.groupBy(questions.entries(), ([, { origin }]) => namespaceOf(origin))
    const asked = [...by].map(async ([name, of]) => {
      const found = await agents.get(name)?.call('ask', { questions: of.map(([, question]) => question), parallel })
      for (const [position, [index]] of of.entries()) results[index] = found?.[position] ?? []
    })
    await Promise.all(asked)
    return results
  }

  /** Starts the program under test as a process that stays in node-a. */
  async startSubject(): Promise<Worker<SubjectMethods>> {
    const module = join(import.meta.dirname, 'subject.ts')
    const subject = await this.sandbox.worker<SubjectMethods>({ namespace: 'node-a', module })
    await subject.call('ready', undefined as never)
    return subject
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

  async #startAgents(): Promise<ReadonlyMap<Namespace, Worker<AgentMethods>>> {
    const module = join(import.meta.dirname, 'agent.ts')
    this.#agents ??= Promise.all([
      Promise.all(
        namespaces.map(
          async name => [name, await this.sandbox.worker<AgentMethods>({ namespace: name, module })] as const,
        ),
      ),
      Promise.all(namespaces.map(name => untilUp(this.sandbox, name))),
    ]).then(([started]) => new Map(started))
    return this.#agents
  }
}

/**
 * Waits for the devices of a namespace. The kernel looks at most once a second for links that have come up
 * (net/core/link_watch.c), and a port of a bridge passes nothing on before; a datagram is not sent again. Throws after 10 s.
 */
async function untilUp(sandbox: Sandbox, namespace: Namespace): Promise<void> {
  const ends = links.flatMap(({ left, right }) => [left, right])
  const devices = ends.filter(end => end.namespace === namespace).map(({ device }) => device)
  const script = [
    `for device in ${devices.join(' ')}; do`,
    '  for try in $(seq 200); do ip link show dev $device | grep -q "state UP" && continue 2; sleep 0.05; done',
    '  echo "$device does not come up" >&2; exit 1',
    'done',
  ]
  await sandbox.check({ namespace, argv: ['sh', '-c', script.join('\n')] })
}
