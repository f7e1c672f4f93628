// What is handed to the runner: which scenarios of which kinds, as files; and the lines that it hands back. Pure.
import type { ProxyMode } from '../../../src/config/types.ts'
import type { Report as ScenarioReport } from '../../support/world/scenario.ts'
import type { Variant } from '../../support/world/world.ts'

/** The runner's only argument is a file with this as JSON. */
export interface Plan {
  /** How many of `kinds` run at once. */
  readonly parallel: number
  /** Each in a world of its own. A kind with many scenarios is there several times, with a part of them each. */
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

/** What a scenario came to, and after how long. */
export interface Report extends ScenarioReport {
  readonly seconds: number
}

/** Reads one line of output. Throws if it is none of the runner's. */
export function parseLine(text: string): Line {
  const line: Line = JSON.parse(text)
  if (typeof line !== 'object' || line === null || typeof line.event !== 'string')
    throw new Error(`not a line: ${text}`)
  return line
}
