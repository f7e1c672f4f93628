// Reads the Prometheus text format, version 0.0.4, and takes nothing that is not exactly of its form.

export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

export interface MetricFamily {
  readonly name: string
  readonly type: 'counter' | 'gauge' | 'histogram' | 'summary'
  readonly help: string
  readonly samples: readonly Sample[]
}

const metricName = '[a-zA-Z_:][a-zA-Z0-9_:]*'
const helpLine = new RegExp(`^# HELP (${metricName}) (\\S.*)$`)
const typeLine = new RegExp(`^# TYPE (${metricName}) (counter|gauge|histogram|summary)$`)
const sampleLine = new RegExp(`^(${metricName})(?:\\{(.*)\\})? (\\S+)$`)

/** Families by name. Throws an Error with the line at fault. */
export function parseMetrics(text: string): ReadonlyMap<string, MetricFamily> {
  if (!text.endsWith('\n')) throw new Error('the last line has no end')
  const lines = text.slice(0, -1).split('\n')
  const families = new Map<string, MetricFamily>()
  for (let index = 0; index < lines.length; ) {
    const [, name, help] = helpLine.exec(lines[index] ?? '') ?? []
    const [, typed, type] = typeLine.exec(lines[index + 1] ?? '') ?? []
    if (name === undefined || help === undefined || typed !== name || !isType(type)) {
      throw new Error(`not HELP and TYPE of one metric: ${lines[index]} | ${lines[index + 1]}`)
    }
    if (families.has(name)) throw new Error(`${name} comes twice`)
    index += 2
    const samples: Sample[] = []
    while (index < lines.length && !(lines[index] ?? '').startsWith('#')) {
      samples.push(parseSample(lines[index] ?? '', name, type))
      index += 1
    }
    const seen = new Set(samples.map(sample => JSON.stringify([sample.name, Object.entries(sample.labels).sort()])))
    if (seen.size !== samples.length) throw new Error(`${name} has a sample twice`)
    if (type === 'histogram') checkHistogram(name, samples)
    families.set(name, { name, type, help, samples })
  }
  return families
}

const isType = (word: string | undefined): word is MetricFamily['type'] => word !== undefined

function parseSample(line: string, family: string, type: MetricFamily['type']): Sample {
  const [, name, labelText, valueText] = sampleLine.exec(line) ?? []
  if (name === undefined || valueText === undefined) throw new Error(`not a sample: ${line}`)
  const suffixes =
    type === 'histogram' ? ['_bucket', '_sum', '_count'] : type === 'summary' ? ['', '_sum', '_count'] : ['']
  if (!suffixes.some(suffix => name === family + suffix)) throw new Error(`a sample of another metric: ${line}`)
  const value = valueText === '+Inf' ? Number.POSITIVE_INFINITY : Number(valueText)
  if (valueText !== '+Inf' && !/^-?\d+(\.\d+)?(e[+-]?\d+)?$/.test(valueText)) throw new Error(`not a value: ${line}`)
  if (type !== 'gauge' && value < 0) throw new Error(`less than nothing: ${line}`)
  return { name, labels: parseLabels(labelText ?? '', line), value }
}

function parseLabels(text: string, line: string): Record<string, string> {
  const labels: Record<string, string> = {}
  const one = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/y
  while (one.lastIndex < text.length) {
    const [, name, value, end] = one.exec(text) ?? []
    if (name === undefined || value === undefined || name in labels) throw new Error(`not labels: ${line}`)
    if (end === ',' && one.lastIndex === text.length) throw new Error(`a label too few: ${line}`)
    labels[name] = value
  }
  return labels
}

function checkHistogram(name: string, samples: readonly Sample[]): void {
  const series = new Map<string, { buckets: Sample[]; count?: number; sum?: number }>()
  for (const sample of samples) {
    const { le: _, ...rest } = sample.labels
    const key = JSON.stringify(Object.entries(rest).sort())
    const one = series.get(key) ?? { buckets: [] }
    series.set(key, one)
    if (sample.name.endsWith('_bucket')) one.buckets.push(sample)
    else if (sample.name.endsWith('_count')) one.count = sample.value
    else one.sum = sample.value
  }
  for (const [key, { buckets, count, sum }] of series) {
    const bounds = buckets.map(({ labels }) => (labels.le === '+Inf' ? Number.POSITIVE_INFINITY : Number(labels.le)))
    const rising = (numbers: readonly number[], strictly: boolean) =>
      numbers.every((number, index) => {
        const before = numbers[index - 1] ?? Number.NEGATIVE_INFINITY
        return strictly ? number > before : number >= before
      })
    const sound =
      sum !== undefined &&
      rising(bounds, true) &&
      bounds.at(-1) === Number.POSITIVE_INFINITY &&
      rising(
        buckets.map(({ value }) => value),
        false,
      ) &&
      buckets.at(-1)?.value === count
    if (!sound) throw new Error(`histogram ${name} ${key} does not add up`)
  }
}
