// Events as the API takes them: events.k8s.io/v1 (KEP-383), within the limits that the API server enforces.
import type { EventInput } from './events-known.ts'

/** Who writes: `reportingController` and `reportingInstance`. */
export interface Reporter {
  /** Ours, not kube-proxy's: what happened is told by the reason, who saw it by this. */
  readonly controller: string
  readonly instance: string
}

/** How often the same thing happened, and when last; times are milliseconds since the epoch. */
export interface SeriesFacts {
  readonly count: number
  readonly lastAt: number
}

const mostNoteBytes = 1024
const mostInstanceLength = 128

/** Namespace in which an event about an object lives; the API has those about Nodes in `default`. */
export const namespaceOf = ({ regarding }: EventInput): string => regarding.namespace ?? 'default'

/** Where events of a namespace are created. */
export const collectionPath = (input: EventInput): string =>
  `/apis/events.k8s.io/v1/namespaces/${encodeURIComponent(namespaceOf(input))}/events`

/**
 * Name of an event: unique for its object by a number, as client-go's. Names of Services and Nodes are short enough to
 * stay below the limit of 253 characters.
 */
export const nameOf = (input: EventInput, number: bigint): string =>
  `${input.regarding.name.slice(0, 230)}.${number.toString(16)}`

/** The object to create. `at`: milliseconds since the epoch. */
export function eventObject(
  input: EventInput,
  name: string,
  at: number,
  reporter: Reporter,
  series?: SeriesFacts,
): object {
  const { regarding, type, reason, action, note } = input
  return {
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    metadata: { name, namespace: namespaceOf(input) },
    eventTime: microTime(at),
    reportingController: reporter.controller,
    reportingInstance: reporter.instance.slice(0, mostInstanceLength),
    regarding,
    type,
    reason,
    action,
    note: shortened(note),
    ...(series === undefined ? {} : seriesPatch(series)),
  }
}

/** The merge patch that says how often by now. */
export const seriesPatch = ({ count, lastAt }: SeriesFacts): object => ({
  series: { count, lastObservedTime: microTime(lastAt) },
})

/** RFC 3339 with six decimals: the only form that a MicroTime is read in. */
const microTime = (ms: number): string => new Date(ms).toISOString().replace('Z', '000Z')

/** Cuts a text so that it has at most so many bytes of UTF-8, between characters. */
function shortened(text: string): string {
  if (Buffer.byteLength(text) <= mostNoteBytes) return text
  const ellipsis = '…'
  const room = mostNoteBytes - Buffer.byteLength(ellipsis)
  // A character that is cut apart decodes to a replacement character, which has no business here.
  return Buffer.from(text).subarray(0, room).toString('utf8').replace(/�+$/, '') + ellipsis
}
