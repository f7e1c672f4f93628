// Loading as the program does, with the file given as text.
import { parseCommandLine } from '../../src/config/flags.ts'
import { type Loaded, load } from '../../src/config/load.ts'

export const header = 'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n'

/** Loads a command line without a file. */
export const loadFlags = (...argv: string[]): Loaded =>
  load(parseCommandLine(argv), path => {
    throw new Error(`${path} was read`)
  })

/** Loads a whole text as the file that --config names, with further flags. */
export const loadText = (text: string, ...argv: string[]): Loaded =>
  load(parseCommandLine(['--config=FILE', ...argv]), () => text)

/** The same for the fields alone. */
export const loadFields = (yaml: string, ...argv: string[]): Loaded => loadText(`${header}${yaml}\n`, ...argv)

/** YAML that sets one field, `iptables.syncPeriod`, in the place it has. */
export const nested = (path: string, yaml: string): string =>
  path
    .split('.')
    .reverse()
    .reduce((inner, name) => `{${name}: ${inner}}`, yaml)

type Tree = Map<string, Tree | string>

/** One document of several such, as `mode: ipvs` and `ipvs.syncPeriod: 2m`. */
export function fieldsOf(settings: readonly (readonly [path: string, yaml: string])[]): string {
  const document: Tree = new Map()
  for (const [path, yaml] of settings) {
    const names = path.split('.')
    const last = names.pop() ?? path
    let section = document
    for (const name of names) {
      const known = section.get(name)
      const inner: Tree = known instanceof Map ? known : new Map()
      section.set(name, inner)
      section = inner
    }
    section.set(last, yaml)
  }
  return [...document].map(([name, node]) => `${name}: ${written(node)}`).join('\n')
}

const written = (node: Tree | string): string =>
  typeof node === 'string' ? node : `{${[...node].map(([name, inner]) => `${name}: ${written(inner)}`).join(', ')}}`
