// The help text follows the table.
import { describe, expect, it } from 'vitest'
import { commands, flags, isCommand, placeholderOf, spelling } from '../../src/config/flag-table.ts'
import { helpText } from '../../src/config/help.ts'

describe('help', () => {
  it('of the program names every subcommand', () => {
    const text = helpText()
    for (const command of Object.keys(commands)) expect(text).toMatch(new RegExp(`^  ${command} `, 'm'))
  })

  it.each(Object.keys(commands).filter(isCommand))('of %s begins with its name and ends with a line break', command => {
    expect(helpText(command)).toMatch(new RegExp(`^penstock ${command}: [^]*Usage: penstock [^]*\n$`))
  })

  it.each(flags.map(flag => [spelling(flag), flag] as const))('%s is explained where it applies', (name, flag) => {
    for (const command of flag.commands ?? (['run', 'cleanup'] as const)) {
      const value = placeholderOf(flag)
      expect(helpText(command)).toContain(value === undefined ? name : `${name} ${value}`)
    }
  })

  it('of compile has none of the flags of trace', () => {
    expect(helpText('compile')).not.toContain('--packets')
    expect(helpText('trace')).toContain('--packets')
  })

  it('says the defaults', () => {
    expect(helpText('run')).toMatch(/--conntrack-min N +.*\(default 131072\)/)
    expect(helpText('run')).toMatch(/--iptables-sync-period DURATION +.*\(default 30s\)/)
  })
})
