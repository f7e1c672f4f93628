// What `--help` prints, made from the table of flags.
import { fields } from './fields.ts'
import {
  type Command,
  commands,
  type FieldFlag,
  type Flag,
  flags,
  groups,
  isCommand,
  placeholderOf,
  spelling,
} from './flag-table.ts'

const column = 46

/** The text for the program, or for one subcommand. Ends with a line break. */
export function helpText(topic?: Command): string {
  const lines =
    topic === undefined ? overview() : [`penstock ${topic}: ${commands[topic]}`, '', `Usage: ${usage(topic)}`]
  if (topic !== 'help' && topic !== 'version') lines.push(...flagLines(topic ?? 'run'))
  return `${lines.join('\n')}\n`
}

function overview(): string[] {
  return [
    'kube-penstock: makes Service addresses work on this node, in place of kube-proxy.',
    '',
    "Usage: penstock [SUBCOMMAND] [FLAGS]    kube-proxy's own command line works unchanged",
    '',
    'Subcommands:',
    ...Object.keys(commands)
      .filter(isCommand)
      .map(command => `  ${command.padEnd(10)}${commands[command]}`),
    '',
    'Exit status: 0 done, 1 failed, 2 bad usage. penstock help SUBCOMMAND says more. The flags of run:',
  ]
}

function usage(topic: Command): string {
  switch (topic) {
    case 'run':
      return 'penstock [run] [--once] [FLAGS]'
    case 'compile':
    case 'plan':
    case 'status':
    case 'doctor':
      return `penstock ${topic} [-o text|json] [FLAGS]`
    case 'trace':
      return 'penstock trace (--src IP --dst IP --port N [--protocol tcp] | --packets FILE|-) [-o text|json] [FLAGS]'
    case 'cleanup':
      return `penstock ${topic} [FLAGS]`
    case 'help':
      return 'penstock help [SUBCOMMAND]'
    case 'version':
      return 'penstock version'
  }
}

function flagLines(command: Command): string[] {
  const lines: string[] = []
  for (const [group, title] of Object.entries(groups)) {
    const members = flags.filter(flag => flag.group === group && flag.commands?.includes(command) !== false)
    if (members.length > 0) lines.push('', `${title}:`, ...members.map(line))
  }
  return lines
}

function line(flag: Flag): string {
  const short = flag.short === undefined || flag.short === flag.name ? '' : `-${flag.short}, `
  const value = placeholderOf(flag)
  const star = flag.group === 'configuration' && 'field' in flag && flag.besideConfig ? ' *' : ''
  const left = `  ${short}${spelling(flag)}${value === undefined ? '' : ` ${value}`}${star}`
  const right = `${flag.help}${'field' in flag ? defaultOf(flag) : ''}`
  return left.length < column ? `${left.padEnd(column)}${right}` : `${left}\n${' '.repeat(column)}${right}`
}

function defaultOf({ field, help }: FieldFlag): string {
  if (help.includes('(default')) return ''
  const value = written(field)
  const nothing = value === '' || value === false || value === '0s' || (Array.isArray(value) && value.length === 0)
  return nothing || typeof value === 'object' ? '' : ` (default ${value})`
}

function written<P extends FieldFlag['field']>(field: P): unknown {
  return fields[field].type.write(fields[field].fallback)
}
