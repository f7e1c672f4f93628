// What a run of hack/bench found, as JSON of a fixed shape: the file of --json and --compare.
import { type Kind, kinds } from './options.ts'

/** Raised when what a field means changes. */
export const schema = 1

/** The machine the figures are of. */
export interface Machine {
  /** Day, UTC. */
  readonly date: string
  readonly processor: string
  readonly cores: number
  readonly memoryGiB: number
  readonly kernel: string
  readonly iptables: string
  readonly nft: string
  readonly node: string
  readonly penstock: string
}

/** One program in one mode with one cluster. Units are in the names. Null: not asked for, or not to be had; `problems` says. */
export interface Figures {
  /** `penstock`, or the peer's name. */
  readonly subject: string
  readonly kind: Kind
  readonly services: number
  /** Of each Service. */
  readonly endpoints: number
  /** Of all cores, by others, before it began: times are only worth something on a machine that is quiet. */
  readonly otherwiseBusyPercent: number
  /**
   * Of all cores, wanted while it was measured and not given by the host of this machine; a percent or two make tails of
   * latency meaningless. Not in files that were written before it was measured.
   */
  readonly stolenPercent?: number
  /** From the start of the process until the first, the middle and the last Service answer, and some between. */
  readonly programmedMs: number | null
  /** CPU of the process tree until it was still again after that. */
  readonly startCpuMs: number | null
  /** Of our own program, from its start until it was still again. */
  readonly loopDelay: { readonly p99Ms: number; readonly maxMs: number } | null
  /** One EndpointSlice each, from the API server's write until a connect reaches it, each in a Service untouched before. */
  readonly change: {
    readonly timed: number
    readonly p50Ms: number
    readonly p90Ms: number
    readonly p99Ms: number
  } | null
  readonly cpuPerChangeMs: number | null
  /** Of `cpuPerChangeMs`, in other processes than the first: the programs that write the rules. */
  readonly toolsPerChangeMs: number | null
  /** Percent of one CPU. */
  readonly idleCpuPercent: number | null
  readonly rssBytes: number | null
  readonly peakBytes: number | null
  /** Medians; `none` is an address that no Service has. */
  readonly connectUs: {
    readonly first: number
    readonly middle: number
    readonly last: number
    readonly none: number
  } | null
  /** One TCP stream; `direct` to the endpoint, without a Service. */
  readonly throughput: { readonly serviceBytesPerSecond: number; readonly directBytesPerSecond: number } | null
  /** From the first write until all are in the kernel; `putMs` is how long the API server took to write them. */
  readonly burst: {
    readonly changes: number
    readonly ms: number
    readonly putMs: number
    readonly cpuMs: number
  } | null
  /** One Service, its endpoints replaced in quarters: each step until no connect reaches an endpoint that was replaced. */
  readonly rolling: { readonly endpoints: number; readonly stepMs: readonly number[]; readonly cpuMs: number } | null
  readonly storm: Storm | null
  readonly restart: {
    /** From the start until everything was compared with the kernel, as the log tells it. */
    readonly comparedMs: number | null
    /** Objects written then. */
    readonly written: number | null
    /** From the start of a further one until a change made before it is in the kernel. */
    readonly caughtUpMs: number | null
    readonly connects: number
    readonly failedConnects: number
  } | null
  /** Why something is null that was asked for. */
  readonly problems: readonly string[]
}

/** Changes at a fixed rate. */
export interface Storm {
  readonly rate: number
  readonly seconds: number
  readonly sent: number
  /** How long it really took: more than `seconds` where the API server could not keep up. */
  readonly tookMs: number
  /** How far behind the kernel was: age of a change when it came to be in the kernel, of changes made one after another. */
  readonly lag: { readonly seen: number; readonly p50Ms: number; readonly p99Ms: number; readonly maxMs: number } | null
  /** Percent of one CPU, of the process tree, while it lasted. */
  readonly cpuPercent: number
  /** From the last change until the kernel held the last change of each of 100 Services and of a sample of the others. */
  readonly inStepMs: number | null
  readonly rssBytes: number
  readonly peakBytes: number
}

/** One step measured by itself. */
export interface Micro {
  /** The file it is in, and its name there. */
  readonly name: string
  readonly medianNs: number
  readonly p99Ns: number
  readonly runs: number
}

export interface Report {
  readonly schema: typeof schema
  readonly machine: Machine
  readonly figures: readonly Figures[]
  readonly micro: readonly Micro[]
}

/** JSON, indented, with a line feed at the end. */
export const formatReport = (report: Report): string => `${JSON.stringify(report, null, 2)}\n`

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Reads `formatReport`'s text. Throws an Error, with `name` as the file's, for other JSON and for another schema. */
export function parseReport(text: string, name: string): Report {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    throw new Error(`${name} is not JSON`)
  }
  if (!isRecord(parsed) || !('schema' in parsed)) throw new Error(`${name} was not written by hack/bench --json`)
  if (parsed.schema !== schema) {
    throw new Error(`${name} has schema ${String(parsed.schema)}; this version reads ${schema}: measure anew`)
  }
  if (!isReport(parsed)) throw new Error(`${name} was not written by hack/bench --json: figures are missing`)
  return parsed
}

function isReport(value: Readonly<Record<string, unknown>>): value is Readonly<Record<string, unknown>> & Report {
  const { machine, figures, micro } = value
  if (!isRecord(machine) || !Array.isArray(figures) || !Array.isArray(micro)) return false
  const isFigures = (item: unknown): boolean =>
    isRecord(item) &&
    typeof item.subject === 'string' &&
    kinds.some(kind => kind === item.kind) &&
    typeof item.services === 'number' &&
    typeof item.endpoints === 'number' &&
    Array.isArray(item.problems)
  const isMicro = (item: unknown): boolean =>
    isRecord(item) && typeof item.name === 'string' && typeof item.medianNs === 'number'
  return figures.every(isFigures) && micro.every(isMicro)
}

/** What is not measured. */
export const nothing = {
  programmedMs: null,
  startCpuMs: null,
  loopDelay: null,
  change: null,
  cpuPerChangeMs: null,
  toolsPerChangeMs: null,
  idleCpuPercent: null,
  rssBytes: null,
  peakBytes: null,
  connectUs: null,
  throughput: null,
  burst: null,
  rolling: null,
  storm: null,
  restart: null,
} satisfies Partial<Figures>
