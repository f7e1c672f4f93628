// What a cluster applies fits the program: its flags, its configuration, what it asks of the API server.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { load, loadAll } from 'js-yaml'
import { describe, expect, test } from 'vitest'
import { modelKinds } from '../../src/api/decode.ts'
import { resourceOf } from '../../src/api/source.ts'
import { flagNamed } from '../../src/config/flag-table.ts'
import { parseCommandLine } from '../../src/config/flags.ts'
import { load as loadConfiguration } from '../../src/config/load.ts'

const root = resolve(import.meta.dirname, '../..')
const folder = join(root, 'manifests')

interface Kustomization {
  readonly namespace: string
  readonly resources: readonly string[]
  readonly configMapGenerator: readonly { readonly name: string; readonly files: readonly string[] }[]
  readonly images: readonly { readonly name: string }[]
}

interface KubernetesObject {
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string }
}

interface Rule {
  readonly apiGroups: readonly string[]
  readonly resources: readonly string[]
  readonly verbs: readonly string[]
}

interface Volume {
  readonly name: string
  readonly configMap?: { readonly name: string }
  readonly hostPath?: { readonly path: string; readonly type: string }
}

interface DaemonSet extends KubernetesObject {
  readonly spec: {
    readonly selector: { readonly matchLabels: Readonly<Record<string, string>> }
    readonly template: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>> }
      readonly spec: {
        readonly serviceAccountName: string
        readonly hostNetwork: boolean
        readonly priorityClassName: string
        readonly tolerations: readonly object[]
        readonly containers: readonly {
          readonly image: string
          readonly args: readonly string[]
          readonly env: readonly { readonly name: string }[]
          readonly securityContext: {
            readonly privileged?: boolean
            readonly readOnlyRootFilesystem: boolean
            readonly capabilities: { readonly drop: readonly string[]; readonly add: readonly string[] }
          }
          readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[]
        }[]
        readonly volumes: readonly Volume[]
      }
    }
  }
}

const read = (name: string): string => readFileSync(join(folder, name), 'utf8')
const kustomization = load(read('kustomization.yaml')) as Kustomization
const objects = kustomization.resources.map(name => load(read(name)) as KubernetesObject)

function objectOf<T extends KubernetesObject>(kind: string): T {
  const found = objects.filter(object => object.kind === kind)
  expect(found, `objects of kind ${kind}`).toHaveLength(1)
  return found[0] as T
}

const daemonSet = objectOf<DaemonSet>('DaemonSet')
const pod = daemonSet.spec.template.spec
const container = pod.containers[0]
if (container === undefined) throw new Error('the DaemonSet has no container')
const [configMap] = kustomization.configMapGenerator
if (configMap === undefined) throw new Error('the kustomization makes no ConfigMap')

/** The file of the ConfigMap that a path inside the container leads to. */
function mountedFile(path: string): string {
  for (const { name, mountPath } of container?.volumeMounts ?? []) {
    const volume = pod.volumes.find(candidate => candidate.name === name)
    if (volume?.configMap?.name !== configMap?.name || !path.startsWith(`${mountPath}/`)) continue
    const file = path.slice(mountPath.length + 1)
    if (configMap?.files.includes(file)) return file
  }
  throw new Error(`${path} is no file of the ConfigMap as it is mounted`)
}

/** A command line as the container's, with the variables of the pod filled in. */
const argv = container.args.map(arg => arg.replace('$(NODE_NAME)', 'node-a'))

describe('kustomization', () => {
  test('names every file of the folder, and every file it names is there', () => {
    const named = [...kustomization.resources, ...(configMap.files ?? [])]
    expect([...named, 'kustomization.yaml'].sort()).toEqual(readdirSync(folder).sort())
  })

  test('sets the image that the DaemonSet uses', () => {
    expect(kustomization.images.map(({ name }) => name)).toContain(container.image)
  })

  const kubectl = spawnSync('kubectl', ['kustomize', folder], { encoding: 'utf8' })
  if (kubectl.error !== undefined)
    console.warn(`kubectl cannot be run (${kubectl.error.message}): its test is left out`)
  test.runIf(kubectl.error === undefined)('kubectl builds it, with every reference to the ConfigMap renamed', () => {
    expect(kubectl.stderr).toBe('')
    const built = loadAll(kubectl.stdout) as KubernetesObject[]
    expect(built.map(({ kind }) => kind).sort()).toEqual(['ConfigMap', ...objects.map(({ kind }) => kind)].sort())
    const map = built.find(({ kind }) => kind === 'ConfigMap')
    const volumes = (built.find(({ kind }) => kind === 'DaemonSet') as DaemonSet).spec.template.spec.volumes
    expect(volumes.find(({ configMap }) => configMap !== undefined)?.configMap?.name).toBe(map?.metadata.name)
    for (const { kind, metadata } of built) {
      expect(metadata.namespace, kind).toBe(kind.startsWith('ClusterRole') ? undefined : kustomization.namespace)
    }
  })
})

describe('the container', () => {
  test('is started with flags that the program has, and with variables that the pod sets', () => {
    const [command, ...flags] = container.args
    expect(command).toBe('run')
    for (const flag of flags) {
      const name = /^--([^=]+)=/.exec(flag)?.[1] ?? ''
      expect(flagNamed(name), flag).toBeDefined()
      for (const [, variable] of flag.matchAll(/\$\(([^)]+)\)/g)) {
        expect(container.env.map(entry => entry.name)).toContain(variable)
      }
    }
  })

  test('has a configuration that loads without a remark', () => {
    const { configuration, notices } = loadConfiguration(parseCommandLine(argv), path => read(mountedFile(path)))
    expect(notices).toEqual([])
    expect(configuration.hostnameOverride).toBe('node-a')
    expect(configuration.mode).toBe('iptables')
    // Without full privileges route_localnet cannot be set.
    expect(configuration.localhostNodePorts).toBe(false)
    expect(mountedFile(configuration.clientConnection.kubeconfig)).toBe('kubeconfig.conf')
  })

  test('reaches the API server as its service account, and not by a Service', () => {
    const { clusters, users } = load(read('kubeconfig.conf')) as {
      clusters: { cluster: { server: string; 'certificate-authority': string } }[]
      users: { user: { tokenFile: string } }[]
    }
    const account = '/var/run/secrets/kubernetes.io/serviceaccount'
    expect(users[0]?.user.tokenFile).toBe(`${account}/token`)
    expect(clusters[0]?.cluster['certificate-authority']).toBe(`${account}/ca.crt`)
    expect(clusters[0]?.cluster.server).toMatch(/^https:\/\/(?!kubernetes\b)/)
  })

  test('may do no more than it must', () => {
    const { privileged, readOnlyRootFilesystem, capabilities } = container.securityContext
    expect(privileged).toBeUndefined()
    expect(readOnlyRootFilesystem).toBe(true)
    expect(capabilities).toEqual({ drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW'] })
    const paths = pod.volumes.flatMap(({ hostPath }) => (hostPath === undefined ? [] : [hostPath]))
    expect(paths).toEqual([{ path: '/run/xtables.lock', type: 'FileOrCreate' }])
  })

  test('runs on every node, in its network', () => {
    expect(pod.hostNetwork).toBe(true)
    expect(pod.priorityClassName).toBe('system-node-critical')
    expect(pod.tolerations).toEqual([{ operator: 'Exists' }])
    expect(daemonSet.spec.template.metadata.labels).toMatchObject(daemonSet.spec.selector.matchLabels)
  })
})

describe('the role', () => {
  const { rules } = objectOf<KubernetesObject & { readonly rules: readonly Rule[] }>('ClusterRole')

  /** `/apis/GROUP/VERSION/RESOURCE`, or `/api/v1/RESOURCE` of the group without a name. */
  const asked = modelKinds.map(kind => {
    const parts = resourceOf(kind, 'node-a').path.split('/').slice(1)
    return parts[0] === 'api' ? `/${parts[2]}` : `${parts[1]}/${parts[3]}`
  })
  const granted = rules.flatMap(({ apiGroups, resources }) =>
    apiGroups.flatMap(group => resources.map(resource => `${group}/${resource}`)),
  )

  test('grants list and watch of what the program asks for, and nothing else', () => {
    expect(granted.sort()).toEqual([...asked].sort())
    for (const { verbs } of rules) expect(verbs).toEqual(['list', 'watch'])
  })

  test('is bound to the service account that the pod runs as', () => {
    const { roleRef, subjects } = objectOf<
      KubernetesObject & { readonly roleRef: object; readonly subjects: readonly object[] }
    >('ClusterRoleBinding')
    const { metadata } = objectOf('ClusterRole')
    expect(roleRef).toEqual({ apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: metadata.name })
    const account = objectOf('ServiceAccount').metadata.name
    expect(subjects).toEqual([{ kind: 'ServiceAccount', name: account, namespace: kustomization.namespace }])
    expect(pod.serviceAccountName).toBe(account)
  })
})

describe('the image', () => {
  const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8')
  const ignored = readFileSync(join(root, '.dockerignore'), 'utf8').split('\n')

  test('is built from files that exist and that .dockerignore lets through', () => {
    const sources = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, files = '']) =>
      files.split(' '),
    )
    expect(sources).toContain('src')
    for (const source of sources) {
      expect(existsSync(join(root, source)), source).toBe(true)
      expect(ignored).toContain(`!${source}`)
    }
  })

  test('has the Node that the lock file pins', () => {
    const { optionalDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      optionalDependencies: Readonly<Record<string, string>>
    }
    for (const version of Object.values(optionalDependencies)) expect(dockerfile).toContain(`FROM node:${version}-`)
  })
})
