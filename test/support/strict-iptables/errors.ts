// The three ways in which the tools refuse, with their exit codes.

/** The tool does not understand an argument: exit code 2. */
export class ParameterProblem extends Error {
  /** Real tools leave their name out of this message. */
  readonly bare: boolean
  constructor(message: string, bare = false) {
    super(message)
    this.bare = bare
  }
}

/** A command on a line cannot be carried out: exit code 1. Legacy tools do not print the reason. */
export class LineFailed extends Error {}

/** The kernel does not take the batch: exit code 4 with nft, 1 with legacy. */
export class KernelRefused extends Error {
  /** `RULE_APPEND failed (Invalid argument): rule in chain A`, by line. */
  readonly failures: readonly { readonly line: number; readonly text: string }[]
  constructor(failures: readonly { readonly line: number; readonly text: string }[]) {
    super(failures.map(({ line, text }) => `line ${line}: ${text}`).join('\n'))
    this.failures = failures
  }
}
