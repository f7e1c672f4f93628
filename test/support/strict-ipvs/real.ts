// The same cases with the real tools, each in a network namespace of its own.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Answer, answerOf, type Case } from './cases.ts'

const quote = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`

/** What the tools of this machine answer. Nothing outside the namespaces changes; root or user namespaces are needed. */
export function realAnswers(cases: readonly Case[]): (readonly Answer[])[] {
  const directory = mkdtempSync(join(tmpdir(), 'strict-ipvs-'))
  try {
    const script = ['cd "$1" || exit 1', 'export XTABLES_LOCKFILE="$1/lock"']
    for (const [number, { steps }] of cases.entries()) {
      mkdirSync(join(directory, `${number}`))
      const body = steps.map(({ words, input }, step) => {
        const base = `${number}/${step}`
        writeFileSync(join(directory, base), input)
        return `${words.map(quote).join(' ')} <${base} >${base}.out 2>${base}.err; echo $? >${base}.rc`
      })
      // Without a route of its own the kernel takes every address for a broadcast one.
      writeFileSync(join(directory, `${number}/script`), ['ip link set lo up', ...body].join('\n'))
      script.push(`unshare -n sh "$1/${number}/script"`)
    }
    const inside = ['sh', '-c', script.join('\n'), 'sh', directory]
    const [command = '', ...args] = process.getuid?.() === 0 ? inside : ['unshare', '-Urn', ...inside]
    execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] })
    return cases.map(({ steps }, number) =>
      steps.map(({ words }, step) => {
        const read = (suffix: string) => readFileSync(join(directory, `${number}/${step}.${suffix}`), 'utf8')
        return answerOf(words, Number(read('rc')), read('out'), read('err'))
      }),
    )
  } finally {
    rmSync(directory, { recursive: true })
  }
}
