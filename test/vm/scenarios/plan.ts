// What is handed to the runner: which scenarios of which kinds, as files; and the lines that it hands back. Pure.
import type { ProxyMode } from '../../../src/config/types.ts'
import type { Variant } from '../../support/world/world.ts'

/** The runner's only argument is a file with this as JSON. */
export interface Plan {
  /** How many kinds run at once, each in a world of its own. */
  readonly parallel: number
  readonly kinds: readonly PlannedKind[]
}

export interface PlannedKind {
  readonly name: string
  readonly mode: ProxyMode
  readonly variant: Variant
  readonly modules: readonly string[]
  readonly sysctls: Readonly<Record<string, string>>
  readonly scenarios: readonly PlannedScenario[]
}

export interface PlannedScenario {
  readonly name: string
  /** A file with the scenario, as this kind means it, as JSON. */
  readonly file: string
}

/** One line of the runner's output. */
export type Line =
  | ({ readonly event: 'scenario'; readonly kind: string; readonly scenario: string } & Report)
  /** A whole kind could not be run, or not to its end. */
  | { readonly event: 'broken'; readonly kind: string; readonly reason: string }
  | { readonly event: 'ready' | 'done'; readonly kind: string; readonly seconds: number }
  | { readonly event: 'summary'; readonly scenarios: number; readonly failed: number; readonly seconds: number }

/** What a scenario came to. */
export interface Report {
  /** A sentence for every packet or check that went wrong. */
  readonly failures: readonly string[]
  /** How many packets were sent, however often each. */
  readonly sent: number
  /** How many were not, by reason. */
  readonly leftOut: Readonly<Record<string, number>>
  readonly seconds: number
}

/** Reads one line of output. Throws if it is none of the runner's. */
export function parseLine(text: string): Line {
  const line: Line = JSON.parse(text)
  if (typeof line !== 'object' || line === null || typeof line.event !== 'string')
    throw new Error(`not a line: ${text}`)
  return line
}
