// The world of test/support/world for an emulated machine: the same devices and routes, with agents that are asked once a
// step instead of once a packet, and with the program itself in node-a.
import { join } from 'node:path'
import type { IP } from '../../../src/net/ip.ts'
import { type Origin, originOf, world as places } from '../../conformance/world.ts'
import { Sandbox, type Worker } from '../../support/netns/sandbox.ts'
import type { Listener, ProbeResult, Spread } from '../../support/world/agent.ts'
import { configurations, links, type Namespace, namespaces, sysctlsOf } from '../../support/world/plan.ts'
import { namespaceOf } from '../../support/world/world.ts'
import type { AgentMethods } from './agent.ts'
import type { PlannedKind } from './plan.ts'
import type { SubjectMethods } from './subject.ts'

/** A packet's source, and what is sent from there how often. */
export interface Question extends Spread {
  readonly origin: Origin
}

export class SlowWorld {
  readonly subject: Worker<SubjectMethods>
  readonly #sandbox: Sandbox
  readonly #agents: ReadonlyMap<Namespace, Worker<AgentMethods>>
  #further: readonly IP[] = []

  private constructor(
    sandbox: Sandbox,
    subject: Worker<SubjectMethods>,
    agents: ReadonlyMap<Namespace, Worker<AgentMethods>>,
  ) {
    this.#sandbox = sandbox
    this.subject = subject
    this.#agents = agents
  }

  /** Builds it. Throws where the machine allows no namespaces, or lacks what the kind needs. */
  static async open({ variant, modules, sysctls }: PlannedKind): Promise<SlowWorld> {
    const sandbox = await Sandbox.open()
    try {
      for (const module of modules) await sandbox.check({ argv: ['modprobe', module] })
      await sandbox.addNamespaces(namespaces)
      await Promise.all(namespaces.map(name => sandbox.configure(name, { sysctls: sysctlsOf(name) })))
      await sandbox.configure('node-a', { sysctls })
      await sandbox.addLinks(links)
      await Promise.all(namespaces.map(name => sandbox.configure(name, configurations[name])))
      // kubelet's mark for others to see which variant of iptables the node uses.
      for (const tool of [`iptables-${variant}`, `ip6tables-${variant}`]) {
        await sandbox.check({ namespace: 'node-a', argv: [tool, '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT'] })
      }
      const subject = sandbox.worker<SubjectMethods>({
        namespace: 'node-a',
        module: join(import.meta.dirname, 'subject.ts'),
      })
      const agents = namespaces.map(async name => {
        const module = join(import.meta.dirname, 'agent.ts')
        const agent = await sandbox.worker<AgentMethods>({ namespace: name, module })
        await agent.call('ready', undefined as never)
        return [name, agent] as const
      })
      const world = new SlowWorld(sandbox, await subject, new Map(await Promise.all(agents)))
      await world.subject.call('ready', undefined as never)
      return world
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
    await this.#sandbox.configure('node-a', {
      ip: [
        ...gone.map(address => `addr del ${host(address)} dev dummy0`),
        ...added.map(address => `addr add ${host(address)} dev dummy0${address.includes(':') ? ' nodad' : ''}`),
      ],
    })
  }

  /** Answers on exactly these addresses and ports from now on. Throws for an address that nobody in the world has. */
  async serve(listeners: readonly Listener[]): Promise<void> {
    const by = Map.groupBy(listeners, ({ address }) => namespaceOf(originOf(address as IP, this.#further)))
    await Promise.all([...this.#agents].map(([name, agent]) => agent.call('serve', { listeners: by.get(name) ?? [] })))
  }

  /** Sends everything, at most `parallel` at once from one place; results in the order of the questions. */
  async ask(questions: readonly Question[], parallel: number): Promise<readonly (readonly ProbeResult[])[]> {
    const results: (readonly ProbeResult[])[] = []
    const by = Map.groupBy(questions.entries(), ([, { origin }]) => namespaceOf(origin))
    const asked = [...by].map(async ([name, of]) => {
      const found = await this.#agents
        .get(name)
        ?.call('ask', { questions: of.map(([, question]) => question), parallel })
      for (const [position, [index]] of of.entries()) results[index] = found?.[position] ?? []
    })
    await Promise.all(asked)
    return results
  }

  /** True for the addresses that a masqueraded packet can bear. */
  ownsAddress(address: string): boolean {
    return [...places.nodeAddresses, ...this.#further].some(own => own === address)
  }

  async close(): Promise<void> {
    await this.#sandbox.close()
  }
}
