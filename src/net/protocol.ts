// The transport protocols a Service port can have.

/** As Kubernetes writes them. */
export type Protocol = 'TCP' | 'UDP' | 'SCTP'

export const protocols: readonly Protocol[] = ['TCP', 'UDP', 'SCTP']

/** Parses a protocol name in any case; undefined if it is none of the three. */
export function parseProtocol(text: string): Protocol | undefined {
  const upper = text.toUpperCase()
  return upper === 'TCP' || upper === 'UDP' || upper === 'SCTP' ? upper : undefined
}
