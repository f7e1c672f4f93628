// What a cluster applies fits the program: its flags, its configuration, its ports and files, what it asks of the API server.
// The files are read as they are, without kubectl.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { load } from 'js-yaml'
import { describe, expect, test } from 'vitest'
import { modelKinds } from '../../src/api/decode.ts'
import { resourceOf } from '../../src/api/source.ts'
import { flagNamed } from '../../src/config/flag-table.ts'
import { parseCommandLine } from '../../src/config/flags.ts'
import { load as loadConfiguration } from '../../src/config/load.ts'
import type { ListenAddress } from '../../src/config/types.ts'
import { healthHandler } from '../../src/health/health-server.ts'
import { ProxyHealth } from '../../src/health/proxy-health.ts'
import { started } from '../../src/observe/events-known.ts'
import { collectionPath } from '../../src/observe/events-objects.ts'
import {
  type ConfigMap,
  containerOf,
  type DaemonSet,
  type KubernetesObject,
  kustomizationOf,
  manifests,
  mountedFile,
  only,
  read,
} from './objects.ts'

interface Rule {
  readonly apiGroups: readonly string[]
  readonly resources: readonly string[]
  readonly verbs: readonly string[]
}

const kustomization = kustomizationOf('base')
const objects = kustomization.resources.map(name => load(read(`base/${name}`)) as KubernetesObject)
const daemonSet = only<DaemonSet>(objects, 'DaemonSet')
const pod = daemonSet.spec.template.spec
const container = containerOf(daemonSet)
const [initContainer] = pod.initContainers ?? []
if (initContainer === undefined) throw new Error('the DaemonSet has no init container')

/** As the generator makes it, but for the hash in its name. */
const maps: readonly ConfigMap[] = (kustomization.configMapGenerator ?? []).map(({ name, files }) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name },
  data: Object.fromEntries(files.map(file => [file, read(`base/${file}`)])),
}))

/** A container's command line with the variables of the pod filled in. */
const argvOf = ({ args = [] }: typeof container): string[] => args.map(arg => arg.replace('$(NODE_NAME)', 'node-a'))

const loadIn = (place: typeof container) =>
  loadConfiguration(parseCommandLine(argvOf(place)), path => mountedFile(daemonSet, place, maps, path))

const { configuration } = loadIn(container)

describe('kustomization', () => {
  test('names every file of the folder, and every file it names is there', () => {
    const named = [...kustomization.resources, ...maps.flatMap(({ data }) => Object.keys(data))]
    expect([...named, 'kustomization.yaml'].sort()).toEqual(readdirSync(join(manifests, 'base')).sort())
  })

  test('sets the image that the DaemonSet uses', () => {
    const names = (kustomization.images ?? []).map(({ name }) => name)
    for (const { image } of [container, initContainer]) expect(names).toContain(image)
  })
})

describe.each([container, initContainer])('the container $name', place => {
  test('is started with flags that the program has, and with variables that the pod sets', () => {
    const [command, ...flags] = place.args ?? []
    expect(command).toBe('run')
    for (const flag of flags) {
      const name = /^--([^=]+)/.exec(flag)?.[1] ?? ''
      expect(flagNamed(name), flag).toBeDefined()
      for (const [, variable] of flag.matchAll(/\$\(([^)]+)\)/g)) {
        expect(place.env.map(entry => entry.name)).toContain(variable)
      }
    }
  })

  test('has a configuration that loads without a remark', () => {
    const loaded = loadIn(place)
    expect(loaded.notices).toEqual([])
    expect(loaded.configuration).toMatchObject({
      hostnameOverride: 'node-a',
      mode: 'iptables',
      localhostNodePorts: true,
    })
  })

  test('mounts volumes that the pod has, and writes to none but the lock', () => {
    const mounts = place.volumeMounts
    expect(pod.volumes.map(({ name }) => name)).toEqual(expect.arrayContaining(mounts.map(({ name }) => name)))
    expect(mounts.filter(({ readOnly }) => readOnly !== true).map(({ mountPath }) => mountPath)).toEqual([
      '/run/xtables.lock',
    ])
    expect(place.securityContext.readOnlyRootFilesystem).toBe(true)
  })

  test('has the memory it needs, and no limit of CPU', () => {
    expect(Object.keys(place.resources.requests)).toEqual(['cpu', 'memory'])
    expect(Object.keys(place.resources.limits)).toEqual(['memory'])
  })
})

describe('the container', () => {
  test('reaches the API server as its service account, and not by a Service', () => {
    const file = mountedFile(daemonSet, container, maps, configuration.clientConnection.kubeconfig)
    const { clusters, users } = load(file) as {
      clusters: { cluster: { server: string; 'certificate-authority': string } }[]
      users: { user: { tokenFile: string } }[]
    }
    const account = '/var/run/secrets/kubernetes.io/serviceaccount'
    expect(users[0]?.user.tokenFile).toBe(`${account}/token`)
    expect(clusters[0]?.cluster['certificate-authority']).toBe(`${account}/ca.crt`)
    expect(clusters[0]?.cluster.server).toMatch(/^https:\/\/(?!kubernetes\b)/)
  })

  test('may do no more than it must; what takes more is done by the init container', () => {
    const { privileged, allowPrivilegeEscalation, capabilities } = container.securityContext
    expect(privileged).toBeUndefined()
    expect(allowPrivilegeEscalation).toBe(false)
    expect(capabilities).toEqual({ drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW'] })
    expect(pod.volumes.flatMap(({ hostPath }) => hostPath ?? [])).toEqual([
      { path: '/run/xtables.lock', type: 'FileOrCreate' },
      { path: '/lib/modules' },
    ])
    expect(initContainer.securityContext.privileged).toBe(true)
    expect(parseCommandLine(argvOf(initContainer)).options.initOnly).toBe(true)
  })

  test('declares the ports that the program listens on', () => {
    const portOf = (address: ListenAddress): number => (address === 'disabled' ? 0 : address.port)
    expect(container.ports?.map(({ name, containerPort }) => [name, containerPort])).toEqual([
      ['healthz', portOf(configuration.healthzBindAddress)],
      ['metrics', portOf(configuration.metricsBindAddress)],
    ])
  })

  const { startupProbe, livenessProbe, readinessProbe } = container
  test.each(Object.entries({ startupProbe, livenessProbe, readinessProbe }))(
    'answers the %s where it asks',
    async (_, probe) => {
      const health = new ProxyHealth({ families: ['IPv4'], timeoutMs: 60_000, now: () => 0, date: () => 0 })
      health.synced('IPv4')
      health.nodeEligible(true)
      const { path, port } = probe.httpGet
      expect(await healthHandler({ health })({ method: 'GET', path })).toMatchObject({ status: 200 })
      expect(port).toBe('healthz')
      expect(container.ports?.map(({ name }) => name)).toContain(port)
    },
  )

  test('is restarted for what a restart may mend, not for a node that is leaving', () => {
    expect(livenessProbe.httpGet.path).toBe('/livez')
    expect(startupProbe.httpGet.path).toBe('/livez')
    expect(readinessProbe.httpGet.path).toBe('/healthz')
  })
})

describe('the DaemonSet', () => {
  test('runs on every node, in its network', () => {
    expect(pod.hostNetwork).toBe(true)
    expect(pod.priorityClassName).toBe('system-node-critical')
    expect(pod.tolerations).toEqual([{ operator: 'Exists' }])
    expect(daemonSet.spec.template.metadata.labels).toMatchObject(daemonSet.spec.selector.matchLabels)
  })

  test('is updated some nodes at a time, never with two pods on a node, which would want the same ports', () => {
    expect(daemonSet.spec.updateStrategy).toEqual({
      type: 'RollingUpdate',
      rollingUpdate: { maxUnavailable: '10%', maxSurge: 0 },
    })
  })
})

describe('the role', () => {
  const { rules } = only<KubernetesObject & { readonly rules: readonly Rule[] }>(objects, 'ClusterRole')

  /** `GROUP/RESOURCE` of `/apis/GROUP/VERSION/[namespaces/NAMESPACE/]RESOURCE`, or `/RESOURCE` of the group without a name. */
  const asked = (path: string): string => {
    const parts = path.split('/').slice(1)
    return `${parts[0] === 'api' ? '' : parts[1]}/${parts.at(-1)}`
  }
  const granted = (verbs: readonly string[]): string[] =>
    rules
      .filter(rule => rule.verbs.join() === verbs.join())
      .flatMap(({ apiGroups, resources }) =>
        apiGroups.flatMap(group => resources.map(resource => `${group}/${resource}`)),
      )

  test('grants list and watch of what the program asks for, events to write, and nothing else', () => {
    expect(granted(['list', 'watch']).sort()).toEqual(
      modelKinds.map(kind => asked(resourceOf(kind, 'node-a').path)).sort(),
    )
    expect(granted(['create', 'patch'])).toEqual([asked(collectionPath(started('node-a', '0.1.0', 'iptables')))])
    expect(rules.every(({ verbs }) => ['list,watch', 'create,patch'].includes(verbs.join()))).toBe(true)
  })

  test('is bound to the service account that the pod runs as', () => {
    const { roleRef, subjects } = only<
      KubernetesObject & { readonly roleRef: object; readonly subjects: readonly object[] }
    >(objects, 'ClusterRoleBinding')
    const { metadata } = only(objects, 'ClusterRole')
    expect(roleRef).toEqual({ apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: metadata.name })
    const account = only(objects, 'ServiceAccount').metadata.name
    expect(subjects).toEqual([{ kind: 'ServiceAccount', name: account, namespace: kustomization.namespace }])
    expect(pod.serviceAccountName).toBe(account)
  })
})
