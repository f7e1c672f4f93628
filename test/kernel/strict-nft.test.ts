// The strict nft of the fast tests against the real one: the same scripts must be taken, refused and listed alike.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Exec } from '../../src/kernel/exec.ts'
import type { Family } from '../../src/net/ip.ts'
import { asMeantBy } from '../conformance/deviations.ts'
import { loadScenarios } from '../conformance/scenario.ts'
import { eventsOf, type Programs, subjectOf } from '../conformance/subject.ts'
import { inputOf } from '../support/input.ts'
import { Sandbox } from '../support/netns/sandbox.ts'
import { alike, base, otherwise, stricter } from '../support/strict-nft/inputs.ts'
import { scriptsOf } from '../support/strict-nft/random.ts'
import { StrictNft } from '../support/strict-nft/strict-nft.ts'
import { unreachableLoop } from '../support/strict-nft/transaction.ts'

/** After one script. */
interface Result {
  readonly exitCode: number
  readonly complaints: readonly string[]
  readonly listed: readonly string[]
}

/** The kernel's words; nft's own are not compared. */
const kernelWords =
  /(?:No such file or directory|File exists|Device or resource busy|Operation not supported|Too many links|Numerical result out of range|Invalid argument)/

/** `3 File exists`: the line at fault, and why if the kernel says so. nft may say several things of one line. */
function complaintsIn(stderr: string): string[] {
  const found = stderr.split('\n').flatMap(line => {
    const complaint = /^(?:\/dev\/stdin:(\d+):\S+ )?.*\bError: (.*)$/.exec(line)
    return complaint === null ? [] : [`${complaint[1] ?? ''} ${kernelWords.exec(complaint[2] ?? '')?.[0] ?? ''}`.trim()]
  })
  return [...new Set(found)]
}

/** Lines of a listing; those of elements one each, in an order of their own. */
function linesIn(listing: string): string[] {
  const elements = (_: string, inside: string): string =>
    inside
      .split(',')
      .map(element => `element ${element.trim()}`)
      .sort()
      .join('\n')
  return listing.replace(/elements = \{([^}]*)\}/g, elements).split('\n')
}

async function strict(scripts: readonly string[]): Promise<Result[]> {
  const nft = new StrictNft()
  const results: Result[] = []
  for (const input of scripts) {
    const { exitCode, stderr } = await nft.run('nft', ['-f', '-'], { input })
    results.push({ exitCode, complaints: complaintsIn(stderr), listed: linesIn(nft.listAll()) })
  }
  return results
}

/** Runs all cases with the real nft, each in a network namespace of its own. */
function real(cases: readonly (readonly string[])[]): Result[][] {
  const directory = mkdtempSync(join(tmpdir(), 'strict-nft-'))
  try {
    const script = ['cd "$1" || exit 1']
    for (const [number, scripts] of cases.entries()) {
      mkdirSync(join(directory, `${number}`))
      const steps = scripts.flatMap((text, step) => {
        const file = `${number}/${step}`
        writeFileSync(join(directory, file), text)
        return [`nft -f - <${file} 2>${file}.err`, `echo $? >${file}.rc`, `nft -n list ruleset >${file}.list`]
      })
      writeFileSync(join(directory, `${number}/script`), steps.join('\n'))
      script.push(`unshare -n sh "$1/${number}/script"`)
    }
    const inside = ['sh', '-c', `${script.join('\n')}\ntrue`, 'sh', directory]
    const [command = '', ...args] = process.getuid?.() === 0 ? inside : ['unshare', '-Urn', ...inside]
    execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, LC_ALL: 'C' } })
    return cases.map((scripts, number) =>
      scripts.map((_, step) => {
        const read = (suffix: string) => readFileSync(join(directory, `${number}/${step}.${suffix}`), 'utf8')
        return {
          exitCode: Number(read('rc')),
          complaints: complaintsIn(read('err')),
          listed: linesIn(read('list')),
        }
      }),
    )
  } finally {
    rmSync(directory, { recursive: true })
  }
}

test('what is alike is taken, refused and listed as by the real nft', async () => {
  const results = real(alike.map(script => [base, script]))
  for (const [index, script] of alike.entries()) {
    expect({ script, results: await strict([base, script]) }).toEqual({ script, results: results[index] })
  }
})

test('what is refused otherwise is refused by both', async () => {
  const results = real(otherwise.map(script => [base, script]))
  for (const [index, script] of otherwise.entries()) {
    const exitCodes = [await strict([base, script]), results[index]].map(found => found?.[1]?.exitCode)
    expect({ script, exitCodes }).toEqual({ script, exitCodes: [1, 1] })
  }
})

test('what is refused on purpose is refused', async () => {
  for (const script of stricter) {
    const [before, after] = await strict([base, script])
    expect({ script, exitCode: after?.exitCode }).toEqual({ script, exitCode: 1 })
    expect(after?.listed).toEqual(before?.listed)
  }
})

/** Scripts up to the first that is stricter here than in the newest kernels, which let loops be that nothing leads to. */
async function comparable(scripts: readonly string[]): Promise<readonly string[]> {
  const nft = new StrictNft()
  for (const [index, script] of scripts.entries()) {
    const outcome = nft.apply(script)
    if (!outcome.ok && outcome.complaints.some(({ text }) => text === unreachableLoop)) return scripts.slice(0, index)
  }
  return scripts
}

test.each<Family>(['IPv4', 'IPv6'])('random scripts of %s lead to the same tables as the real nft', async family => {
  const samples = fc.sample(scriptsOf(family), { numRuns: 100, seed: 20_261_201 })
  const cases = await Promise.all(samples.map(comparable))
  const results = real(cases)
  const exitCodes = results.flat().map(({ exitCode }) => exitCode)
  // Neither all taken nor all refused.
  for (const code of [0, 1]) expect(exitCodes.filter(found => found === code).length).toBeGreaterThan(80)
  for (const [index, scripts] of cases.entries()) {
    expect({ scripts, results: await strict(scripts) }).toEqual({ scripts, results: results[index] })
  }
})

describe('every scenario, change by change', () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = await Sandbox.open()
  })
  afterAll(async () => {
    await sandbox?.close()
  })

  /** Both at once: what one answers the other must answer too. */
  function pair(): { readonly exec: Exec; readonly writes: () => number } {
    const nft = new StrictNft()
    const exec: Exec = {
      async run(command, args, options = {}) {
        const input = (await inputOf(options)) ?? ''
        const found = await sandbox.exec({ argv: [command, ...args], input })
        const expected = await nft.run(command, args, { ...options, input })
        const compared = ({ exitCode, stdout, stderr }: typeof found): Result => ({
          exitCode,
          complaints: complaintsIn(stderr),
          listed: linesIn(stdout),
        })
        expect(compared(expected), [command, ...args, options.input ?? ''].join(' ')).toEqual(compared(found))
        return { ...found, notFound: false }
      },
    }
    return { exec, writes: () => nft.writes() }
  }

  const asText = (programs: Programs): string[] =>
    [...programs].flatMap(([family, program]) =>
      [...program].map(([key, value]) => `${family} ${key}\n${value}`).sort(),
    )

  test.each(loadScenarios().map(scenario => [scenario.name, scenario] as const))('%s', async (_name, scenario) => {
    await sandbox.check({ argv: ['nft', 'flush', 'ruleset'] })
    const { exec, writes } = pair()
    const meant = asMeantBy('nftables', scenario)
    const subject = subjectOf(meant, 'nftables', exec)
    for (const step of meant.steps) {
      for (const event of atMost(20, eventsOf(step))) {
        subject.take(event)
        await subject.sync()
      }
      expect(subject.complaints, step.title).toEqual([])
      expect(asText(await subject.held()), step.title).toEqual(asText(await subject.desired()))
    }
    const before = writes()
    const restarted = subjectOf(meant, 'nftables', exec)
    restarted.take(meant.steps.flatMap(eventsOf))
    await restarted.sync()
    expect(writes() - before, 'writes of a restart').toBe(0)
  })
})

/** In so many parts at most. */
function atMost<T>(count: number, items: readonly T[]): T[][] {
  const size = Math.max(1, Math.ceil(items.length / count))
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) =>
    items.slice(index * size, (index + 1) * size),
  )
}
