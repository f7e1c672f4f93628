// What a match or target extension is: options it takes, and what it prints and demands once all are read.
import { ParameterProblem } from './errors.ts'
import type { KernelNeeds, RuleContext } from './tables.ts'

/** The protocol of the rule as far as it was read. */
export interface RuleProtocol {
  readonly name: string
  readonly negated: boolean
}

/** An extension in the middle of a rule. */
export interface Extension {
  readonly name: string
  /** Options by name; true for those that take an argument, `two` for those that take two, handed over with a blank between. */
  readonly options: Readonly<Record<string, boolean | 'two'>>
  option(name: string, argument: string, negated: boolean): void
  /** Called after the last word of the rule. */
  finish(protocol: RuleProtocol | undefined, context: RuleContext): Finished
}

export interface Finished {
  readonly text: string
  readonly needs?: KernelNeeds
  readonly legacyRefused?: boolean
  /** IP sets that it looks into. */
  readonly sets?: readonly string[]
}

/** Refuses a second use of an option, and `!` where it has no meaning, in the tools' words. */
export function optionGuard(extension: string, invertible: readonly string[]) {
  const seen = new Set<string>()
  return (name: string, negated: boolean): void => {
    if (negated && !invertible.includes(name))
      throw new ParameterProblem(`${extension}: option "${name}" cannot be inverted.\n`)
    if (seen.has(name)) throw new ParameterProblem(`${extension}: option "${name}" can only be used once.\n`)
    seen.add(name)
  }
}

/** An option without which the extension means nothing. */
export function required<T>(value: T | undefined, extension: string, option: string): T {
  if (value === undefined) throw new ParameterProblem(`${extension}: option "${option}" must be specified\n`)
  return value
}

/** `! ` where it is negated. */
export const not = (negated: boolean): string => (negated ? '! ' : '')
