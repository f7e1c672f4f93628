// The three ways in which nft says no: it does not understand, it finds no sense in it, or the kernel refuses.

/** Not nft's language, or not a part of it that is known here. */
export class SyntaxProblem extends Error {}

/** Understood, and senseless: nft itself refuses, before the kernel is asked. */
export class EvaluationProblem extends Error {
  /** What nft prints where the line would be, when it has lost it. */
  readonly instead: string | undefined
  constructor(message: string, instead?: string) {
    super(message)
    this.instead = instead
  }
}

/** What the kernel answers, in the words of its error number. */
export class KernelProblem extends Error {}

export const missing = 'No such file or directory'
export const exists = 'File exists'
export const busy = 'Device or resource busy'
export const unsupported = 'Operation not supported'
export const tooManyLinks = 'Too many links'
export const outOfRange = 'Numerical result out of range'
export const invalid = 'Invalid argument'
