// What kubectl builds of each overlay, and that it differs from the base in what the overlay is for and in nothing else.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { load } from 'js-yaml'
import { beforeAll, describe, expect, test } from 'vitest'
import { parseCommandLine } from '../../src/config/flags.ts'
import { load as loadConfiguration } from '../../src/config/load.ts'
import type { Configuration } from '../../src/config/types.ts'
import { metricsHandler } from '../../src/observe/http.ts'
import { kubeadmDaemonSet } from './kubeadm.ts'
import {
  built,
  type ConfigMap,
  containerOf,
  type DaemonSet,
  type KubernetesObject,
  kustomizationOf,
  manifests,
  mountedFile,
  noKubectl,
  only,
  read,
} from './objects.ts'

if (noKubectl !== undefined) console.warn(`kubectl cannot be run (${noKubectl}): tests of what it builds are left out`)

const overlays = readdirSync(join(manifests, 'overlays'))
/** Overlays of the base, and what each changes in the configuration. */
const onBase: Readonly<Record<string, (configuration: Configuration) => object>> = {
  iptables: () => ({}),
  nftables: () => ({ mode: 'nftables', nodePortAddresses: ['primary'] }),
  ipvs: () => ({ mode: 'ipvs' }),
  prometheus: ({ metricsBindAddress }) => ({
    metricsBindAddress: { ...(metricsBindAddress === 'disabled' ? {} : metricsBindAddress), address: '0.0.0.0' },
  }),
}

const configurationOf = (text: string): Configuration => {
  const { configuration, notices } = loadConfiguration(parseCommandLine(['--config=FILE']), () => text)
  expect(notices).toEqual([])
  return configuration
}

test('every overlay is tested', () => {
  expect([...Object.keys(onBase), 'kubeadm'].sort()).toEqual(overlays.sort())
})

test.each(overlays)('overlay %s names every file of its folder', overlay => {
  const { resources, configMapGenerator = [] } = kustomizationOf(`overlays/${overlay}`)
  const named = [...resources, ...configMapGenerator.flatMap(({ files }) => files)].filter(
    name => name !== '../../base',
  )
  expect([...named, 'kustomization.yaml'].sort()).toEqual(readdirSync(join(manifests, 'overlays', overlay)).sort())
})

describe.runIf(noKubectl === undefined)('kubectl builds', () => {
  let base: readonly KubernetesObject[]
  beforeAll(() => {
    base = built('base')
  })

  /** The configuration that the container reads. Names of ConfigMaps end in a hash, so this tells whether all follow. */
  const configured = (objects: readonly KubernetesObject[]): Configuration => {
    const daemonSet = only<DaemonSet>(objects, 'DaemonSet')
    const maps = [only<ConfigMap>(objects, 'ConfigMap')]
    return configurationOf(mountedFile(daemonSet, containerOf(daemonSet), maps, '/etc/kube-penstock/config.conf'))
  }

  test('the base, in the namespace that it names', () => {
    expect(base.map(({ kind }) => kind).sort()).toEqual([
      'ClusterRole',
      'ClusterRoleBinding',
      'ConfigMap',
      'DaemonSet',
      'ServiceAccount',
    ])
    for (const { kind, metadata } of base) {
      expect(metadata.namespace, kind).toBe(kind.startsWith('ClusterRole') ? undefined : 'kube-system')
    }
    expect(configured(base)).toEqual(configurationOf(read('base/config.conf')))
  })

  test.each(Object.entries(onBase))(
    'overlay %s: a configuration of its own, all else as in the base',
    (name, changes) => {
      const objects = built(`overlays/${name}`)
      const plain = configured(base)
      const configuration = configured(objects)
      expect(configuration).toMatchObject(changes(plain))
      expect({ ...configuration, ...pick(plain, Object.keys(changes(plain))) }).toEqual(plain)
      // But for the hash in the name of the ConfigMap, and what the overlay adds.
      const texts = (list: readonly KubernetesObject[]) =>
        list
          .filter(({ kind }) => kind !== 'ConfigMap')
          .map(object => JSON.stringify(object).replaceAll(/kube-penstock-[0-9a-z]{10}/g, 'kube-penstock-HASH'))
      expect(texts(objects)).toEqual(expect.arrayContaining(texts(base)))
    },
  )

  describe('overlay prometheus', () => {
    interface PodMonitor extends KubernetesObject {
      readonly spec: {
        readonly selector: { readonly matchExpressions: readonly { key: string; values: readonly string[] }[] }
        readonly podMetricsEndpoints: readonly { readonly port: string; readonly path: string }[]
      }
    }
    let objects: readonly KubernetesObject[]
    let monitor: PodMonitor
    beforeAll(() => {
      objects = built('overlays/prometheus')
      monitor = only<PodMonitor>(objects, 'PodMonitor')
    })

    test('scrapes a port that the pods declare, on a path that is served', async () => {
      const [endpoint] = monitor.spec.podMetricsEndpoints
      const container = containerOf(only<DaemonSet>(objects, 'DaemonSet'))
      expect(container.ports?.map(({ name }) => name)).toContain(endpoint?.port)
      const exposition = () => Promise.resolve({ contentType: 'text/plain', body: 'x 1\n' })
      const handler = metricsHandler({
        metrics: exposition,
        slis: exposition,
        mode: () => 'iptables',
        configz: () => ({}),
        flags: () => ({}),
        status: () => ({}),
        service: () => undefined,
        date: () => 0,
        startedAt: 0,
      })
      expect(await handler({ method: 'GET', path: endpoint?.path ?? '' })).toMatchObject({ status: 200, body: 'x 1\n' })
    })

    test('selects our pods, and those of kubeadm that have our image', () => {
      const [expression] = monitor.spec.selector.matchExpressions
      for (const { spec } of [only<DaemonSet>(objects, 'DaemonSet'), kubeadmDaemonSet]) {
        expect(expression?.values).toContain(spec.template.metadata.labels[expression?.key ?? ''])
      }
    })

    test('adds nothing but that and the alerts', () => {
      const kinds = (list: readonly KubernetesObject[]) => list.map(({ kind }) => kind)
      expect(kinds(objects).sort()).toEqual([...kinds(base), 'PodMonitor', 'PrometheusRule'].sort())
    })
  })
})

const pick = (configuration: Configuration, names: readonly string[]): object =>
  Object.fromEntries(Object.entries(configuration).filter(([name]) => names.includes(name)))

test('images of all kustomizations have one tag, that of the program', () => {
  const { version } = load(read('../package.json')) as { readonly version: string }
  for (const folder of ['base', 'overlays/kubeadm']) {
    expect(kustomizationOf(folder).images?.map(({ newTag }) => newTag)).toEqual([version])
  }
})
