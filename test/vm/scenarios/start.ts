// Prepares the runner and starts it, in the virtual machine or on this one: for the test, and for a person who looks for a
// failure: node test/vm/scenarios/start.ts [--here] [--whole] [--parallel N] [--kind NAME]... [--only
// SCENARIO]...
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { build, type Plugin } from 'esbuild'
import { asMeantBy } from '../../conformance/deviations.ts'
import { loadScenarios } from '../../conformance/scenario.ts'
import { chosenFor } from './choose.ts'
import { kinds, missing } from './kinds.ts'
import { type Line, type Plan, type PlannedKind, parseLine } from './plan.ts'

const root = resolve(import.meta.dirname, '../../..')

export interface Choice {
  /** Names of kinds; all that there are where it is left out. */
  readonly kinds?: readonly string[]
  /** Names of scenarios; all that can be sent for real where it is left out. */
  readonly only?: readonly string[]
  /** Every scenario on every kind, not only those that `chosenFor` takes. */
  readonly whole?: boolean
  readonly parallel?: number
  /** On this machine, not in the virtual one. */
  readonly here?: boolean
  /** Limit on everything, in seconds. */
  readonly timeout?: number
  /** Ends it before its time. */
  readonly signal?: AbortSignal
}

/** How a run ended: the status of the runner or of hack/vm, and what was said on stderr. */
export interface Ended {
  readonly status: number
  readonly stderr: string
}

/** Runs the scenarios and tells of each line as it comes. Throws when the runner cannot be built or started. */
export async function runScenarios(choice: Choice, tell: (line: Line) => void): Promise<Ended> {
  mkdirSync(join(root, 'dist'), { recursive: true })
  const directory = mkdtempSync(join(root, 'dist/scenarios-'))
  try {
    const plan = prepare(directory, choice)
    await bundle(directory)
    const run = [process.execPath, join(directory, 'main.mjs'), plan]
    const inVm = [join(root, 'hack/vm'), '--timeout', String(choice.timeout ?? 1_500), ...run]
    return await start(choice.here === true ? run : inVm, tell, choice.signal)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Writes the scenarios, as each kind means them, and the plan. Reading YAML takes seconds in there. */
function prepare(directory: string, { only, whole = false, kinds: names, parallel }: Choice): string {
  const real = loadScenarios().filter(scenario => scenario.real)
  const chosen = kinds.filter(kind => names?.includes(kind.name) ?? missing(kind) === undefined)
  const planned: PlannedKind[] = chosen.flatMap(kind => {
    mkdirSync(join(directory, kind.name))
    const wanted =
      only === undefined ? chosenFor(kind, real, whole) : real.filter(scenario => only.includes(scenario.name))
    const scenarios = wanted.map(scenario => {
      const file = join(directory, kind.name, `${scenario.name}.json`)
      writeFileSync(file, JSON.stringify(asMeantBy(kind.mode, scenario)))
      return { name: scenario.name, file }
    })
    return worlds(scenarios).map(some => ({ ...kind, scenarios: some }))
  })
  const plan: Plan = { parallel: parallel ?? planned.length, kinds: planned }
  const file = join(directory, 'plan.json')
  writeFileSync(file, JSON.stringify(plan))
  return file
}

/** More than these, and a kind's scenarios are shared out to two worlds: one alone leaves a processor idle half of the time. */
const mostInOneWorld = 40

function worlds<T>(scenarios: readonly T[]): readonly (readonly T[])[] {
  const count = scenarios.length > mostInOneWorld ? 2 : 1
  return Array.from({ length: count }, (_, world) => scenarios.filter((_, index) => index % count === world))
}

/** Modules that are processes of their own. */
const entries = {
  main: 'test/vm/scenarios/main.ts',
  subject: 'test/support/world/subject.ts',
  agent: 'test/support/world/agent.ts',
  host: 'test/support/netns/host.ts',
}

/** Where a module starts another beside it, the bundle starts the bundle beside it. */
const workersBeside: Plugin = {
  name: 'workers-beside',
  setup(builder) {
    const started = new Set<string>()
    builder.onLoad({ filter: /\/test\/.*\.ts$/ }, async ({ path }) => {
      const text = await readFile(path, 'utf8')
      const contents = text.replace(/join\(import\.meta\.dirname, '(\w+)\.ts'\)/g, (_match, name: string) => {
        started.add(name)
        return `join(import.meta.dirname, '${name}.mjs')`
      })
      return { contents, loader: 'ts' }
    })
    builder.onEnd(() => {
      const expected = Object.keys(entries).filter(name => name !== 'main')
      if (expected.every(name => started.has(name)) && started.size === expected.length) return
      throw new Error(`${[...started].join(', ')} are started as processes, ${expected.join(', ')} are bundled`)
    })
  },
}

/** One file a process: in there, finding and stripping a hundred modules takes longer than many scenarios. */
async function bundle(directory: string): Promise<void> {
  await build({
    absWorkingDir: root,
    entryPoints: entries,
    outdir: directory,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    target: 'node24',
    format: 'esm',
    logLevel: 'warning',
    // Has a library beside it, and is found from dist/ as it is from here.
    external: ['koffi'],
    plugins: [workersBeside],
    // Packages in the old format ask for Node's modules by `require`.
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  })
}

function start(
  [program = '', ...args]: readonly string[],
  tell: (line: Line) => void,
  signal: AbortSignal | undefined,
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
    const stop = (): void => void child.kill()
    signal?.addEventListener('abort', stop, { once: true })
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    createInterface({ input: child.stdout }).on('line', text => {
      try {
        tell(parseLine(text))
      } catch (error) {
        stderr += `${text}\n`
        if (!(error instanceof SyntaxError)) throw error
      }
    })
    child.once('error', reject)
    child.once('close', (status, signal) => resolve({ status: status ?? -1, stderr: `${stderr}${signal ?? ''}` }))
  })
}

/** For a person: what was asked for, and what came of it. */
async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      here: { type: 'boolean', default: false },
      parallel: { type: 'string' },
      whole: { type: 'boolean', default: false },
      kind: { type: 'string', multiple: true },
      only: { type: 'string', multiple: true },
      timeout: { type: 'string', default: '1800' },
    },
  })
  for (const kind of kinds) {
    const why = missing(kind)
    if (why !== undefined) console.error(why)
  }
  const { status, stderr } = await runScenarios(
    {
      here: values.here,
      whole: values.whole,
      timeout: Number(values.timeout),
      ...(values.parallel === undefined ? {} : { parallel: Number(values.parallel) }),
      ...(values.kind === undefined ? {} : { kinds: values.kind }),
      ...(values.only === undefined ? {} : { only: values.only }),
    },
    line => console.log(JSON.stringify(line)),
  )
  process.stderr.write(stderr)
  process.exitCode = status
}

if (process.argv[1] === import.meta.filename) await main()
