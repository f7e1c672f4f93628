// Text of a manifest to Kubernetes objects: several YAML documents, JSON, and Lists of either.
import { CORE_SCHEMA, loadAll, mergeTag, YAMLException } from 'js-yaml'
import type { ModelKind } from '../model/records.ts'
import { messageOf } from './errors.ts'
import { isObject, type JSONObject, listAt, metaOf, objectAt, type Report, show, stringAt } from './fields.ts'

/** An object of a kind that the model keeps. */
export interface ManifestObject {
  readonly kind: ModelKind
  readonly key: string
  readonly object: JSONObject
}

/** A text that is neither YAML nor JSON: names the file, the document and the line. */
export class ManifestError extends Error {
  override readonly name = 'ManifestError'
}

/** As kubectl reads it: YAML 1.2 with merge keys. */
const schema = CORE_SCHEMA.withTags(mergeTag)

/**
 * Parses a manifest. Objects of kinds that mean nothing to a proxy are passed over in silence, documents that are no
 * objects are reported.
 * @throws ManifestError when the text is not YAML or JSON.
 */
export function parseManifest(file: string, text: string, report: Report): ManifestObject[] {
  const found: ManifestObject[] = []
  for (const [index, document] of documentsOf(file, text).entries()) {
    if (document === null || document === undefined) continue
    collect(document, undefined, found, message => {
      report({ object: file, field: `document ${index + 1}`, message })
    })
  }
  return found
}

function documentsOf(file: string, text: string): readonly unknown[] {
  // JSON.parse is many times faster, and what it refuses gets its line number below.
  if (/^\s*[[{]/.test(text)) {
    try {
      return [JSON.parse(text)]
    } catch {
      // JSON documents one after another, or YAML in flow style, or broken.
    }
  }
  try {
    return loadAll(text, { schema })
  } catch (error) {
    throw new ManifestError(`${file}: ${placeOf(error, text)}${messageOf(error).split('\n', 1)[0]}`, { cause: error })
  }
}

function placeOf(error: unknown, text: string): string {
  if (!(error instanceof YAMLException) || error.mark === undefined) return ''
  const line = error.mark.line + 1
  const before = text.split('\n').slice(0, line)
  const separators = before.filter((content, index) => index > 0 && /^---(\s|$)/.test(content)).length
  return `document ${separators + 1}, line ${line}: `
}

/** `list`: kind and version that a typed list gives to items which do not name their own. */
function collect(
  value: unknown,
  list: JSONObject | undefined,
  found: ManifestObject[],
  report: (message: string) => void,
): void {
  if (Array.isArray(value)) {
    for (const item of value) collect(item, list, found, report)
    return
  }
  if (!isObject(value)) {
    report(`must be a Kubernetes object, not ${show(value)}; it is ignored`)
    return
  }
  const apiVersion = stringAt(value, 'apiVersion') || stringAt(list ?? {}, 'apiVersion')
  const kind = stringAt(value, 'kind') || stringAt(list ?? {}, 'kind').replace(/List$/, '')
  if (kind === '') {
    report('has no kind; it is ignored')
    return
  }
  if (kind.endsWith('List') && Array.isArray(value.items)) {
    for (const item of listAt(value, 'items')) collect(item, { apiVersion, kind }, found, report)
    return
  }
  const known = modelKindOf(apiVersion, kind)
  if (known === undefined) return
  const object = isNamespaced(known) ? withNamespace(value) : value
  const meta = metaOf(object)
  if (meta === undefined) report(`${kind} without metadata.name; it is ignored`)
  else found.push({ kind: known, key: meta.key, object })
}

function modelKindOf(apiVersion: string, kind: string): ModelKind | undefined {
  switch (`${apiVersion} ${kind}`) {
    case 'v1 Service':
      return 'Service'
    case 'v1 Node':
      return 'Node'
    case 'discovery.k8s.io/v1 EndpointSlice':
      return 'EndpointSlice'
    case 'networking.k8s.io/v1 ServiceCIDR':
    case 'networking.k8s.io/v1beta1 ServiceCIDR':
      return 'ServiceCIDR'
    default:
      return undefined
  }
}

const isNamespaced = (kind: ModelKind): boolean => kind === 'Service' || kind === 'EndpointSlice'

/** As kubectl does: what names no namespace goes to `default`. */
function withNamespace(object: JSONObject): JSONObject {
  const metadata = objectAt(object, 'metadata')
  if (stringAt(metadata, 'namespace') !== '') return object
  return { ...object, metadata: { ...metadata, namespace: 'default' } }
}
