// The lines that ipvsadm is given, taken apart again: what a commit wrote, and whether the kernel took it.
import type { VirtualServer } from './names.ts'
import { type HeldServer, serverOf } from './parse.ts'

/** A line of ours for ipvsadm. */
export interface ServerCommand {
  readonly line: string
  readonly verb: string
  readonly option: string
  /** With ` -6` after a mark of IPv6. */
  readonly where: string
  readonly server: VirtualServer | undefined
  readonly real: string | undefined
  /** NaN where the line gives none. */
  readonly weight: number
  /** Of a virtual server. */
  readonly options: string
}

export function commandOf(line: string): ServerCommand {
  const words = line.split(' ')
  const [verb = '', option = '', where = ''] = words
  const isSix = words[3] === '-6'
  const at = words.indexOf('-r')
  const weightAt = words.indexOf('-w')
  return {
    line,
    verb,
    option,
    where: isSix ? `${where} -6` : where,
    server: serverOf(option, where, isSix)?.name,
    real: at < 0 ? undefined : words[at + 1],
    weight: weightAt < 0 ? Number.NaN : Number(words[weightAt + 1]),
    options: words.slice(isSix ? 4 : 3).join(' '),
  }
}

/** All lines of an input. */
export function* commandsIn(text: string): Iterable<ServerCommand> {
  for (const line of text.split('\n')) if (line !== '') yield commandOf(line)
}

/** Lines that the kernel does not hold to, in their order. */
export function unmet(text: string, held: readonly HeldServer[]): ServerCommand[] {
  const servers = new Map(held.map(item => [item.server, item]))
  return [...commandsIn(text)].filter(command => !isMet(command, servers.get(command.server ?? '')))
}

function isMet({ verb, real, weight, options }: ServerCommand, held: HeldServer | undefined): boolean {
  switch (verb) {
    case '-A':
    case '-E':
      return held?.options === options
    case '-D':
      return held === undefined
    case '-d':
      return held?.real.some(({ address }) => address === real) !== true
    default: {
      const found = held?.real.find(({ address }) => address === real)
      // What is to be drained may be gone.
      return weight === 0 ? found === undefined || found.weight === 0 : found?.weight === weight
    }
  }
}
