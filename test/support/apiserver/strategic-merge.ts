// Strategic merge patch, which kubectl's apply, edit and patch send: a merge patch that merges some lists by a key.
// Rules: k8s.io/apimachinery pkg/util/strategicpatch; the keys are the patchMergeKey tags of k8s.io/api.
import { isDeepStrictEqual } from 'node:util'
import { isObject, type JsonObject } from './json.ts'

/** Fields of lists merged by a key of their elements, for the kinds this server has. Any other list is replaced. */
const mergeKeys: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  Service: { 'spec.ports': 'port', 'status.conditions': 'type', 'metadata.ownerReferences': 'uid' },
  Node: { 'status.conditions': 'type', 'status.addresses': 'type', 'metadata.ownerReferences': 'uid' },
  EndpointSlice: { 'metadata.ownerReferences': 'uid' },
  ServiceCIDR: { 'status.conditions': 'type', 'metadata.ownerReferences': 'uid' },
}

/** Lists of scalars that are united instead of replaced. */
const united = new Set(['metadata.finalizers', 'spec.podCIDRs'])

const setOrder = '$setElementOrder/'
const deleteScalars = '$deleteFromPrimitiveList/'

/** Applies a strategic merge patch to an object of this kind. Pure. */
export const strategicMerge = (kind: string, target: JsonObject, patch: JsonObject): JsonObject =>
  mergeObjects(mergeKeys[kind] ?? {}, '', target, patch)

type Keys = Readonly<Record<string, string>>

function mergeObjects(keys: Keys, at: string, target: JsonObject, patch: JsonObject): JsonObject {
  const { $patch: directive, $retainKeys: retained, ...changes } = patch
  if (directive === 'replace') return changes
  if (directive === 'delete') return {}
  const out: JsonObject = { ...target }
  if (Array.isArray(retained)) for (const field of Object.keys(out)) if (!retained.includes(field)) delete out[field]
  for (const [field, value] of Object.entries(changes)) {
    if (field.startsWith('$')) continue
    const path = at === '' ? field : `${at}.${field}`
    const present = out[field]
    if (value === null) delete out[field]
    else if (isObject(value)) out[field] = mergeObjects(keys, path, isObject(present) ? present : {}, value)
    else if (Array.isArray(value)) out[field] = mergeLists(keys, path, Array.isArray(present) ? present : [], value)
    else out[field] = value
  }
  applyListDirectives(keys, at, out, changes)
  return out
}

function mergeLists(keys: Keys, path: string, present: readonly unknown[], patch: readonly unknown[]): unknown[] {
  const key = keys[path]
  if (key === undefined) return united.has(path) ? [...new Set([...present, ...patch])] : [...patch]
  if (patch.some(element => isObject(element) && element.$patch === 'replace')) {
    return patch.filter(element => !isObject(element) || element.$patch !== 'replace')
  }
  let out = [...present]
  for (const element of patch) {
    if (!isObject(element)) continue
    const { $patch: directive, ...changes } = element
    const index = out.findIndex(candidate => isObject(candidate) && isDeepStrictEqual(candidate[key], element[key]))
    const found = out[index]
    if (directive === 'delete') out = out.filter((_, i) => i !== index)
    else if (isObject(found)) out[index] = mergeObjects(keys, path, found, changes)
    else out.push(changes)
  }
  return out
}

/** `$setElementOrder/f` orders a merged list, `$deleteFromPrimitiveList/f` takes scalars out of one. */
function applyListDirectives(keys: Keys, at: string, out: JsonObject, changes: JsonObject): void {
  for (const [name, value] of Object.entries(changes)) {
    if (!Array.isArray(value)) continue
    if (name.startsWith(deleteScalars)) {
      const field = name.slice(deleteScalars.length)
      const list = out[field]
      if (Array.isArray(list)) out[field] = list.filter(element => !value.includes(element))
    }
    if (name.startsWith(setOrder)) {
      const field = name.slice(setOrder.length)
      const list = out[field]
      if (Array.isArray(list)) out[field] = ordered(list, value, keys[at === '' ? field : `${at}.${field}`])
    }
  }
}

function ordered(list: readonly unknown[], order: readonly unknown[], key: string | undefined): unknown[] {
  const idOf = (element: unknown): unknown => (key !== undefined && isObject(element) ? element[key] : element)
  const wanted = order.map(idOf)
  const rank = (element: unknown): number => {
    const index = wanted.findIndex(id => isDeepStrictEqual(id, idOf(element)))
    return index < 0 ? wanted.length : index
  }
  return list.toSorted((a, b) => rank(a) - rank(b))
}
