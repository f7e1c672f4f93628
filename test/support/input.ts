// What a program is given to read, whole: for machines in memory, and programs that are started elsewhere.
import type { ExecOptions } from '../../src/kernel/exec.ts'

/** The text, however it comes; undefined where there is none. */
export async function inputOf({ input }: ExecOptions): Promise<string | undefined> {
  if (input === undefined || typeof input === 'string') return input
  const parts: string[] = []
  for await (const part of input) parts.push(part)
  return parts.join('')
}
