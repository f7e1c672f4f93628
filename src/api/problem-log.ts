// Problems of objects, each told once: an object that stays bad is updated every few seconds, and nobody reads a log twice.
import type { ModelKind } from '../model/records.ts'
import { DecodeError, type Problem, type Report } from './fields.ts'

export interface ProblemLog {
  /** Number of objects whose newest version cannot be decoded. */
  readonly undecodable: number
  /** Runs a decoder and reports what is new among its problems. Undefined when the object as a whole cannot be used. */
  collect<T>(kind: ModelKind, key: string, decode: (report: Report) => T): T | undefined
  /** The object is gone: should it come back, its problems are news again. */
  forget(kind: ModelKind, key: string): void
}

/** An object with hundreds of bad endpoints says so a few times, not hundreds of times. */
const problemsPerObject = 10

/** Starts with nothing reported. */
export function createProblemLog(report: Report): ProblemLog {
  const told = new Map<string, ReadonlySet<string>>()
  const refused = new Set<string>()
  return {
    get undecodable() {
      return refused.size
    },
    collect(kind, key, decode) {
      const id = `${kind} ${key}`
      const problems: Problem[] = []
      try {
        const result = decode(problem => {
          if (problems.length < problemsPerObject) problems.push(problem)
        })
        refused.delete(id)
        return result
      } catch (error) {
        if (!(error instanceof DecodeError)) throw error
        problems.push(error.problem)
        refused.add(id)
        return undefined
      } finally {
        const before = told.get(id)
        if (problems.length === 0) told.delete(id)
        else told.set(id, new Set(problems.map(textOf)))
        for (const problem of problems) if (before?.has(textOf(problem)) !== true) report(problem)
      }
    },
    forget(kind, key) {
      const id = `${kind} ${key}`
      told.delete(id)
      refused.delete(id)
    },
  }
}

const textOf = (problem: Problem): string => `${problem.field}: ${problem.message}`
