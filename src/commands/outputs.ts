// What `compile`, `plan` and `trace` print: text for people, one JSON document for programs.
import type { Delta, Outcome, Program, Transaction } from '../backend/backend.ts'
import type { Family } from '../net/ip.ts'
import { formatAddressPort } from '../net/ip.ts'
import type { Packet } from '../net/packet.ts'

export interface CompiledFamily {
  readonly family: Family
  readonly program: Program
  readonly transaction: Transaction
}

/** The whole program: what the tools would be given on a node that holds nothing of ours. */
export function compiledText(mode: string, families: readonly CompiledFamily[]): string {
  return families
    .map(({ family, program, transaction }) => {
      const head = `# ${family}, ${mode}: ${program.size} objects\n`
      return head + transaction.steps.map(step => step.text).join('')
    })
    .join('\n')
}

export const compiledJson = (mode: string, families: readonly CompiledFamily[]): unknown => ({
  mode,
  families: families.map(({ family, program }) => ({
    family,
    objects: [...program].map(([key, value]) => ({ key, value })).sort((a, b) => (a.key < b.key ? -1 : 1)),
  })),
})

export interface PlannedFamily {
  readonly family: Family
  readonly delta: Delta
  readonly transaction: Transaction
}

/** The difference, object by object, in the manner of `diff`. */
export function plannedText(mode: string, families: readonly PlannedFamily[]): string {
  const lines: string[] = []
  for (const { family, delta } of families) {
    const { added, changed, removed } = delta
    if (added.length + changed.length + removed.length === 0) {
      lines.push(`${family}, ${mode}: nothing to do`)
      continue
    }
    lines.push(`${family}, ${mode}: ${added.length} to add, ${changed.length} to change, ${removed.length} to remove`)
    for (const { key, value } of added) lines.push(`+ ${key}`, ...indented('+', value))
    for (const { key, from, to } of changed) {
      const before = new Set(from.split('\n'))
      const after = new Set(to.split('\n'))
      const gone = from.split('\n').filter(line => !after.has(line))
      const fresh = to.split('\n').filter(line => !before.has(line))
      // The same rules in another order are a difference too.
      const [minus, plus] = gone.length + fresh.length === 0 ? [from.split('\n'), to.split('\n')] : [gone, fresh]
      lines.push(`~ ${key}`, ...minus.map(line => `-   ${line}`), ...plus.map(line => `+   ${line}`))
    }
    for (const { key, value } of removed) lines.push(`- ${key}`, ...indented('-', value))
  }
  return `${lines.join('\n')}\n`
}

const indented = (sign: string, value: string): string[] =>
  value === '' ? [] : value.split('\n').map(line => `${sign}   ${line}`)

export const plannedJson = (mode: string, families: readonly PlannedFamily[]): unknown => ({
  mode,
  families: families.map(({ family, delta, transaction }) => ({ family, ...delta, steps: transaction.steps })),
})

export type Traced = { readonly packet: Packet } & Outcome

/** A packet's way: verdict first, then the rules. */
export function tracedText({ packet, verdict, endpoints, masquerade, servicePort, path }: Traced): string {
  const lines = [
    `${packet.protocol} ${packet.src} → ${formatAddressPort(packet.dst, packet.port)}: ${verdict}` +
      (servicePort === null ? '' : ` (${servicePort})`) +
      (verdict === 'dnat' ? `, ${masquerade ? 'masqueraded' : 'source kept'}` : ''),
    ...endpoints.map(
      ({ address, probability, masquerade: self }) =>
        `  ${address}  ${(probability * 100).toFixed(1)} %${self === masquerade ? '' : self ? '  masqueraded' : '  source kept'}`,
    ),
    ...path.map(({ table, chain, rule }) => `    ${table} ${chain}: ${rule}`),
  ]
  return `${lines.join('\n')}\n`
}

/** The answer of `design.md` §2; the packet in the form it is given in, its protocol in lower case. */
export const tracedJson = ({ packet, endpoints, ...outcome }: Traced): unknown => ({
  packet: { ...packet, protocol: packet.protocol.toLowerCase() },
  verdict: outcome.verdict,
  endpoints: endpoints.map(({ address, probability }) => ({ address, probability })),
  masquerade: outcome.masquerade,
  servicePort: outcome.servicePort,
  path: outcome.path,
})
