// Runs the micro-benchmarks: each file `*.bench.ts` below test/ lies beside the tests of what it measures.
import { readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Bench } from 'tinybench'
import type { Micro } from './report.ts'

/** One step, measured by itself. */
export interface Step {
  readonly name: string
  /** Does it once, on inputs made beforehand. What it returns is kept from being optimised away, and is for tests. */
  readonly run: () => unknown
}

/** What a file `*.bench.ts` exports. */
export interface BenchFile {
  readonly steps: readonly Step[]
}

const root = resolve(import.meta.dirname, '..')

/** Paths below test/, in order. */
export const benchFiles = (): string[] =>
  readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter(path => path.endsWith('.bench.ts'))
    .sort()

/** The steps of a file. Throws an Error if it exports none. */
export async function loadSteps(path: string): Promise<readonly Step[]> {
  const { steps }: BenchFile = await import(join(root, path))
  if (steps === undefined || steps.length === 0) throw new Error(`test/${path} exports no steps`)
  return steps
}

/** Runs all steps, each for half a second or `timeMs`. `say` is told the files. Throws the Error of a step that fails. */
export async function runMicro(say: (line: string) => void, timeMs = 500): Promise<Micro[]> {
  const found: Micro[] = []
  for (const path of benchFiles()) {
    say(`test/${path} …`)
    const bench = new Bench({ time: timeMs, warmupTime: timeMs / 5, throws: true })
    let kept: unknown
    for (const { name, run } of await loadSteps(path)) {
      bench.add(name, () => {
        kept = run()
      })
    }
    for (const { name, result } of await bench.run()) {
      if (result.state !== 'completed' && result.state !== 'aborted-with-statistics') {
        throw new Error(`test/${path}, ${name}: ${result.state}`)
      }
      const { p50, p99, samplesCount } = result.latency
      found.push({
        name: `${path.replace('.bench.ts', '')}: ${name}`,
        medianNs: p50 * 1e6,
        p99Ns: p99 * 1e6,
        runs: samplesCount,
      })
    }
    if (kept === undefined) throw new Error(`test/${path}: the last step returns nothing`)
  }
  return found
}
