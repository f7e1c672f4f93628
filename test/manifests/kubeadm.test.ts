// On a cluster made by kubeadm: replacing the image of its kube-proxy is enough, and the overlay adds probes and resources.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { load } from 'js-yaml'
import { describe, expect, test } from 'vitest'
import { parseCommandLine } from '../../src/config/flags.ts'
import { load as loadConfiguration } from '../../src/config/load.ts'
import { kubeadmDaemonSet, kubeadmText } from './kubeadm.ts'
import {
  containerOf,
  type DaemonSet,
  type KubernetesObject,
  kubectl,
  kustomizationOf,
  manifests,
  noKubectl,
  only,
  read,
} from './objects.ts'

if (noKubectl !== undefined) console.warn(`kubectl cannot be run (${noKubectl}): tests with its patches are left out`)

const before = containerOf(kubeadmDaemonSet)
const dockerfile = readFileSync(join(manifests, '../Dockerfile'), 'utf8')
const [image] = kustomizationOf('overlays/kubeadm').images ?? []

/** What the program makes of a container's command: where it is in the image, and its command line. */
function commandOf({ command = [], args = [] }: typeof before): { readonly program: string; readonly argv: string[] } {
  const [program = '', ...argv] = [...command, ...args].map(word => word.replace('$(NODE_NAME)', 'node-a'))
  return { program, argv }
}

test("the image answers to kubeadm's command", () => {
  const { program, argv } = commandOf(before)
  expect(dockerfile).toContain(`ln -s penstock ${program}`)
  const config = 'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n'
  const paths: string[] = []
  const { configuration } = loadConfiguration(parseCommandLine(argv), path => {
    paths.push(path)
    return config
  })
  expect(paths).toEqual(['/var/lib/kube-proxy/config.conf'])
  expect(before.volumeMounts.map(({ mountPath }) => mountPath)).toContain('/var/lib/kube-proxy')
  expect(configuration.hostnameOverride).toBe('node-a')
})

describe.runIf(noKubectl === undefined)('with kubectl', () => {
  const wanted = `${image?.name}:${image?.newTag}`

  test('setting the image leaves everything else', () => {
    const args = ['set', 'image', '--local', '-f', '-', '-o', 'yaml', `kube-proxy=${wanted}`]
    const after = containerOf(only<DaemonSet>(kubectl(args, kubeadmText), 'DaemonSet'))
    expect(after).toEqual({ ...before, image: wanted })
  })

  test('the overlay is a patch that adds probes, ports and resources, as the base has them', () => {
    const patch = only<DaemonSet>(kubectl(['kustomize', join(manifests, 'overlays/kubeadm')]), 'DaemonSet')
    expect(patch.metadata).toEqual({ name: kubeadmDaemonSet.metadata.name, namespace: 'kube-system' })
    const args = ['patch', '--local', '-f', '-', '-o', 'yaml', '--patch', JSON.stringify(patch)]
    const patched = only<DaemonSet>(kubectl(args, kubeadmText), 'DaemonSet')
    const after = containerOf(patched)
    const ours = containerOf(load(read('base/daemon-set.yaml')) as DaemonSet)
    const { startupProbe, livenessProbe, readinessProbe, ports, resources } = ours
    expect(after).toEqual({
      ...before,
      image: wanted,
      startupProbe,
      livenessProbe,
      readinessProbe,
      resources,
      ports: ports?.map(port => expect.objectContaining(port)),
    })
    const rest = ({ spec: { template, ...spec } }: DaemonSet): object => ({
      spec,
      template: { ...template, spec: { ...template.spec, containers: [] } },
    })
    expect(rest(patched)).toEqual(rest(kubeadmDaemonSet))
  })
})

test("kubeadm's role has every right that ours has", () => {
  interface Role extends KubernetesObject {
    readonly rules: readonly {
      readonly apiGroups: readonly string[]
      readonly resources: readonly string[]
      readonly verbs: readonly string[]
    }[]
  }
  // ClusterRole system:node-proxier (`kube-proxy.md` §11.4), by group and resource.
  const events = ['create', 'patch', 'update']
  const theirs: Readonly<Record<string, readonly string[]>> = {
    '/services': ['list', 'watch'],
    '/endpoints': ['list', 'watch'],
    '/nodes': ['get', 'list', 'watch'],
    '/events': events,
    'events.k8s.io/events': events,
    'discovery.k8s.io/endpointslices': ['list', 'watch'],
    'networking.k8s.io/servicecidrs': ['list', 'watch'],
  }
  const { rules } = load(read('base/cluster-role.yaml')) as Role
  for (const { apiGroups, resources, verbs } of rules) {
    for (const group of apiGroups) {
      for (const resource of resources)
        expect(theirs[`${group}/${resource}`]).toEqual(expect.arrayContaining([...verbs]))
    }
  }
})
