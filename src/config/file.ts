// KubeProxyConfiguration v1alpha1, read whole: every field known, every problem reported with its path.
import { YAMLException } from 'js-yaml'
import { under } from './field-types.ts'
import { type FieldPath, type FieldValues, fieldPaths, fields, isFieldPath, Settings } from './fields.ts'
import { nearest } from './nearest.ts'
import { describe, Mapping, parseDocuments } from './yaml.ts'

const apiVersion = 'kubeproxy.config.k8s.io/v1alpha1'
const kind = 'KubeProxyConfiguration'

/** Fields of earlier releases, which a cluster upgraded over the years still has in its ConfigMap. */
const removed: Readonly<Record<string, string>> = {
  udpIdleTimeout: 'it belonged to the userspace mode, which is gone',
  resourceContainer: 'it is gone from v1alpha1',
  'conntrack.max': 'it is gone from v1alpha1; see conntrack.maxPerCore and conntrack.min',
}

/** What a file said, and what was wrong with it. */
export interface FileSettings {
  readonly settings: Settings
  readonly problems: readonly string[]
}

/**
 * Reads the text of a configuration file, YAML or JSON. Null is unset. Unlike kube-proxy, which falls back to lenient
 * decoding with a warning, unknown and repeated fields are problems: a misspelt field is a setting that is missing.
 */
export function readFile(text: string): FileSettings {
  const settings = new Settings()
  const problems: string[] = []
  const document = singleDocument(text, problems)
  if (document === undefined || !hasRightKind(document, problems)) return { settings, problems }
  walk(
    document,
    '',
    (path, problem) => problems.push(`${path === '' ? kind : `${kind}.${path}`}: ${problem}`),
    settings,
  )
  return { settings, problems }
}

function singleDocument(text: string, problems: string[]): Mapping | undefined {
  try {
    const [document, ...more] = parseDocuments(text).filter(node => node !== null)
    if (document === undefined) problems.push(`the file is empty: expected a ${kind}`)
    else if (more.length > 0) problems.push(`the file holds ${more.length + 1} documents: expected one ${kind}`)
    else if (document instanceof Mapping) return document
    else problems.push(`expected a ${kind}, found ${describe(document)}`)
  } catch (error) {
    // js-yaml lets other errors out too, of the engine's own making.
    const { mark, reason } = error instanceof YAMLException ? error : { mark: undefined, reason: String(error) }
    const where = mark === undefined ? '' : `line ${mark.line + 1}, column ${mark.column + 1}: `
    problems.push(`${where}not well formed as YAML or JSON: ${reason}`)
  }
  return undefined
}

function hasRightKind(document: Mapping, problems: string[]): boolean {
  const before = problems.length
  for (const [name, right] of [
    ['apiVersion', apiVersion],
    ['kind', kind],
  ] as const) {
    const node = document.entries.get(name)
    if (node === right) continue
    const found = node === undefined || node === null ? 'nothing' : describe(node)
    const hint = node === 'ConfigMap' ? ' (the configuration is the text under its key config.conf)' : ''
    problems.push(`${kind}.${name}: expected "${right}", found ${found}${hint}`)
  }
  return problems.length === before
}

function walk(mapping: Mapping, path: string, report: (path: string, problem: string) => void, settings: Settings) {
  for (const name of new Set(mapping.repeated)) report(under(path, name), 'given more than once')
  for (const [name, node] of mapping.entries) {
    const here = under(path, name)
    if (path === '' && (name === 'apiVersion' || name === 'kind')) continue
    if (isFieldPath(here)) readField(here, node, report, settings)
    else if (!isSection(here)) report(here, unknown(path, name))
    else if (node instanceof Mapping) walk(node, here, report, settings)
    else if (node !== null) report(here, `expected a mapping, found ${describe(node)}`)
  }
}

function readField<P extends FieldPath>(
  path: P,
  node: unknown,
  report: (path: string, problem: string) => void,
  settings: Settings,
): void {
  const field = fields[path]
  if (node === null || (field.zeroIsUnset && field.type.isZero(node))) return
  const value: FieldValues[P] | undefined = field.type.read(node, path, report)
  if (value !== undefined) settings.set(path, value, `${kind}.${path}`)
}

const isSection = (path: string): boolean => fieldPaths.some(field => field.startsWith(`${path}.`))

function unknown(section: string, name: string): string {
  const path = under(section, name)
  const why = Object.hasOwn(removed, path) ? removed[path] : undefined
  if (why !== undefined) return `unknown field: ${why}; delete it`
  const start = section === '' ? '' : `${section}.`
  const siblings = fieldPaths.filter(field => field.startsWith(start)).map(field => field.slice(start.length))
  const close = nearest(
    name,
    siblings.map(field => field.split('.')[0] ?? field),
  )
  if (close !== undefined) return `unknown field; did you mean ${close}?`
  const elsewhere = fieldPaths.find(field => field.endsWith(`.${name}`))
  return elsewhere === undefined ? 'unknown field' : `unknown field; did you mean ${elsewhere}?`
}
