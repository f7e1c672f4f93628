// Inputs that show what iptables-restore takes and refuses; inputs.txt holds them, one after a line `=== name`.
import { readFileSync } from 'node:fs'
import type { Family } from '../../../src/net/ip.ts'

export interface SampleInput {
  readonly name: string
  readonly family: Family
  readonly noflush: boolean
  readonly text: string
}

/** All samples, in the file's order. */
export function sampleInputs(): readonly SampleInput[] {
  const file = readFileSync(new URL('inputs.txt', import.meta.url), 'utf8')
  return file
    .split(/^=== /m)
    .slice(1)
    .map(section => {
      const end = section.indexOf('\n')
      const [name = '', ...flags] = section.slice(0, end).split(' | ')
      const family = flags.includes('IPv6') ? 'IPv6' : 'IPv4'
      return { name, family, noflush: !flags.includes('flush'), text: section.slice(end + 1) }
    })
}
