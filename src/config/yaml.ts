// YAML or JSON text to plain nodes, keeping what a plain object loses: which keys were written twice.
import { boolYaml11Tag, CORE_SCHEMA, defineMappingTag, loadAll, mergeTag } from 'js-yaml'

/** A mapping as it was written. The last of several equal keys wins; all such keys are named in `repeated`. */
export class Mapping {
  readonly entries = new Map<string, unknown>()
  readonly repeated: string[] = []
}

const mappingTag = defineMappingTag<Mapping>('tag:yaml.org,2002:map', {
  create: () => new Mapping(),
  addPair: (mapping, key, value) => {
    const name = String(key)
    if (mapping.entries.has(name)) mapping.repeated.push(name)
    mapping.entries.set(name, value)
    return ''
  },
  // The parser stops at the first repeated key; ours are all reported.
  has: () => false,
  keys: mapping => mapping.entries.keys(),
  get: (mapping, key) => mapping.entries.get(String(key)),
  identify: () => false,
})

// kube-proxy's parser takes YAML 1.1's yes, no, on and off for booleans, and knows merge keys.
const schema = CORE_SCHEMA.withTags(boolYaml11Tag, mergeTag, mappingTag)

/**
 * The documents of a text, mappings as `Mapping`. JSON is YAML.
 * @throws YAMLException with line and column if it is not well formed.
 */
export const parseDocuments = (text: string): unknown[] => loadAll(text, { schema })

/** A node as a person wrote it, short enough for a message: `"x"`, `14`, `null`, `a list`, `a mapping`. */
export function describe(node: unknown): string {
  if (node instanceof Mapping) return 'a mapping'
  if (Array.isArray(node)) return 'a list'
  const text = typeof node === 'string' ? JSON.stringify(node) : String(node)
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}
