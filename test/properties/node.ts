// A node whose kernel is the strict iptables: its syncer can be thrown away and started again, as a program is.

import type { Backend, KernelObject, Program } from '../../src/backend/backend.ts'
import { iptablesBackend } from '../../src/backend/iptables/index.ts'
import { chainPrefix } from '../../src/backend/iptables/names.ts'
import { planOptions } from '../../src/backend/iptables/plan.ts'
import { plan } from '../../src/backend/xtables/plan.ts'
import { parseSave } from '../../src/backend/xtables/save.ts'
import type { ModelEvent } from '../../src/model/records.ts'
import { Store } from '../../src/model/store.ts'
import type { Family } from '../../src/net/ip.ts'
import type { DesiredProgram } from '../../src/sync/program.ts'
import { StrictExec } from '../support/strict-iptables/exec.ts'
import type { StrictIptables } from '../support/strict-iptables/strict-iptables.ts'
import { type Harness, harness } from '../sync/harness.ts'

export type Variant = 'nft' | 'legacy'

export interface StrictNodeOptions {
  readonly family: Family
  readonly variant: Variant
  /** Chains in one restore; the backend's own choice when absent. */
  readonly chunk?: number | undefined
}

export class StrictNode {
  readonly exec: StrictExec
  readonly kernel: StrictIptables
  readonly store = new Store({ nodeName: 'node-a' })
  readonly #options: StrictNodeOptions
  #harness: Harness

  constructor(options: StrictNodeOptions) {
    this.#options = options
    this.exec = new StrictExec({ variants: [options.variant] })
    this.kernel = this.exec.iptables(options.family, options.variant)
    this.#harness = this.#start()
  }

  get syncer() {
    return this.#harness.syncer
  }

  get heard() {
    return this.#harness.heard
  }

  /** The program ends and starts again: nothing is remembered but the cluster and the kernel. */
  restart(): void {
    this.#harness = this.#start()
    this.syncer.markDirty(this.store.keys())
  }

  apply(...events: readonly ModelEvent[]): void {
    this.#harness.apply(...events)
  }

  async sync(...events: readonly ModelEvent[]): Promise<void> {
    await this.#harness.sync(...events)
  }

  /** What a fresh program would compile from what the store holds now. */
  async fresh(): Promise<Program> {
    return new Map((await this.#compiled()).objects)
  }

  /** What one Service port, `ns/name:port/TCP`, would have in the fresh program. */
  async wanted(servicePort: string): Promise<readonly KernelObject[]> {
    return (await this.#compiled()).objectsOf(servicePort)
  }

  /** Service ports that want something which the kernel does not hold. */
  async lacking(): Promise<string[]> {
    return (await this.#compiled()).ownersLacking(this.held())
  }

  async #compiled(): Promise<DesiredProgram> {
    const { syncer } = this.#start()
    syncer.markDirty(this.store.keys())
    await syncer.compile()
    return syncer.program
  }

  /** What is ours in the kernel. */
  held(): Program {
    const tables = ['filter', 'nat'] as const
    return new Map(
      tables.flatMap(table =>
        [...parseSave(this.kernel.save(table), { prefix: chainPrefix, tables })].map(
          ({ key, value }): [string, string] => [key, value],
        ),
      ),
    )
  }

  #start(): Harness {
    const { family, variant, chunk } = this.#options
    const own = iptablesBackend({ family, exec: this.exec, variant })
    const backend: Backend =
      chunk === undefined
        ? own
        : {
            ...own,
            plan: delta => plan(delta, { ...planOptions(undefined), chunk, withoutDeclarations: variant === 'nft' }),
          }
    return harness({ backend, family, store: this.store })
  }
}

/** Programs as text, for comparison: sorted, one object after the other. */
export const textOf = (program: Program): string[] => [...program].map(([key, value]) => `${key}\n${value}`).sort()
