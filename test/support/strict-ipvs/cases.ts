// Cases that are run both here and with the real tools: calls of programs one after the other, each with what it says.
import { readFileSync } from 'node:fs'
import { StrictIpvs } from './machine.ts'

/** One call of a program. */
export interface Step {
  readonly words: readonly string[]
  readonly input: string
}

export interface Case {
  readonly name: string
  readonly steps: readonly Step[]
}

/** What a call says, without what is different every time. */
export interface Answer {
  /** The call, to be found again. */
  readonly call: string
  readonly exitCode: number
  readonly stdout: readonly string[]
  readonly stderr: readonly string[]
}

/**
 * The cases of inputs.txt: one after a line `=== name`, each of its calls after a line `$ program arguments`, and the lines
 * up to the next call are its input.
 */
export function sampleCases(): readonly Case[] {
  const file = readFileSync(new URL('inputs.txt', import.meta.url), 'utf8')
  return file
    .split(/^=== /m)
    .slice(1)
    .map(section => {
      const [name = '', ...calls] = section.split(/^\$ /m)
      const steps = calls.flatMap(call => {
        const end = call.indexOf('\n')
        return withLooks({ words: call.slice(0, end).split(' '), input: call.slice(end + 1) })
      })
      return { name: name.trim(), steps }
    })
}

const restoreCommand = /^(ip6?tables)-(nft|legacy)-restore$/

/** A call that may change something, and what is there after it. */
export function withLooks(step: Step): Step[] {
  const [program = '', verb = ''] = step.words
  const tables = restoreCommand.exec(program)
  const looks: string[][] = []
  if (tables !== null) looks.push([program.replace('restore', 'save'), '-t', 'mangle'])
  if (program === 'ipset' && verb === 'restore') looks.push(['ipset', 'save'])
  const isRouteListing = program === 'ip' && step.words.slice(2, 4).join(' ') === 'route show'
  if (program === 'ip' && !verb.startsWith('-o') && verb !== '-V' && !isRouteListing)
    looks.push(['ip', '-o', 'addr', 'show'])
  if (program === 'ip' && (verb === 'route' || /^\s*route\s/m.test(step.input)))
    looks.push(...['-4', '-6'].map(family => ['ip', family, 'route', 'show', 'table', 'local', 'proto', '112']))
  if (program === 'ipvsadm' && !/^-[LlS]/.test(verb)) looks.push(['ipvsadm', '-Sn'])
  return [step, ...looks.map(words => ({ words, input: '' }))]
}

/** Programs that a case calls. */
export const programsOf = ({ steps }: Case): ReadonlySet<string> => new Set(steps.map(({ words }) => words[0] ?? ''))

/** What the tools said where it was recorded, by case: see answers.txt. */
export function recordedAnswers(): ReadonlyMap<string, readonly Answer[]> {
  const file = readFileSync(answersFile, 'utf8')
  return new Map(
    file
      .split(/^=== /m)
      .slice(1)
      .map(section => {
        const [name = '', ...calls] = section.split(/^\$ /m)
        return [name.trim(), calls.map(readAnswer)]
      }),
  )
}

/** Where the answers are kept. */
export const answersFile = new URL('answers.txt', import.meta.url)

function readAnswer(text: string): Answer {
  const [head = '', ...lines] = text.split('\n')
  const of = (mark: string) => lines.filter(line => line.startsWith(mark)).map(line => line.slice(mark.length))
  const [call = '', exitCode = ''] = head.split(' → ')
  return { call, exitCode: Number(exitCode), stdout: of('> '), stderr: of('! ') }
}

/** Answers in the form of answers.txt. */
export const printAnswers = (name: string, answers: readonly Answer[]): string =>
  [
    `=== ${name}`,
    ...answers.flatMap(({ call, exitCode, stdout, stderr }) => [
      `$ ${call} → ${exitCode}`,
      ...stdout.map(line => `> ${line}`),
      ...stderr.map(line => `! ${line}`),
    ]),
    '',
  ].join('\n')

/** What the strict machine answers. */
export async function strictAnswers({ steps }: Case): Promise<readonly Answer[]> {
  const machine = new StrictIpvs()
  const answers: Answer[] = []
  for (const { words, input } of steps) {
    const [program = '', ...args] = words
    const { exitCode, stdout, stderr } = await machine.run(program, args, { input })
    answers.push(answerOf(words, exitCode, stdout, stderr))
  }
  return answers
}

/** Leaves out times, seeds of hashes and the order in which a hash is read. */
export function answerOf(words: readonly string[], exitCode: number, stdout: string, stderr: string): Answer {
  const call = words.join(' ')
  return { call, exitCode, stdout: tidied(words, linesOf(stdout)), stderr: linesOf(stderr) }
}

const linesOf = (text: string): string[] =>
  text
    .split('\n')
    .map(line => line.trimEnd())
    .filter(line => line !== '')

function tidied([program = '', verb = '']: readonly string[], lines: readonly string[]): string[] {
  if (program.endsWith('-save')) return lines.filter(line => !line.startsWith('#'))
  // The loopback device is up, and none of the machine's.
  if (program === 'ip')
    return lines
      .filter(line => !line.startsWith('1: lo '))
      .map(line => line.replace(/ link\/ether [0-9a-f:]{17} /, ' link/ether '))
  if (program !== 'ipset' || verb !== 'save') return [...lines]
  const sets: string[][] = []
  for (const line of lines) {
    if (line.startsWith('create ')) sets.push([line.replace(/ initval 0x[0-9a-f]{8}$/, '')])
    else sets.at(-1)?.push(line)
  }
  return sets.flatMap(([create = '', ...elements]) => [create, ...elements.sort()])
}
