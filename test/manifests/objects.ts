// The shapes of what a cluster applies, as far as the tests look into them, and how kubectl builds an overlay.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { load, loadAll } from 'js-yaml'

const root = resolve(import.meta.dirname, '../..')
export const manifests = join(root, 'manifests')

/** A file below manifests/, as text. */
export const read = (path: string): string => readFileSync(join(manifests, path), 'utf8')

export interface KubernetesObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string }
}

export interface Kustomization {
  readonly namespace?: string
  readonly resources: readonly string[]
  readonly configMapGenerator?: readonly {
    readonly name: string
    readonly behavior?: string
    readonly files: readonly string[]
  }[]
  readonly images?: readonly { readonly name: string; readonly newTag: string }[]
}

export const kustomizationOf = (folder: string): Kustomization =>
  load(read(`${folder}/kustomization.yaml`)) as Kustomization

export interface ConfigMap extends KubernetesObject {
  readonly data: Readonly<Record<string, string>>
}

export interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string }
  readonly periodSeconds: number
  readonly failureThreshold: number
}

export interface Container {
  readonly name: string
  readonly image: string
  readonly command?: readonly string[]
  readonly args?: readonly string[]
  readonly env: readonly { readonly name: string }[]
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[]
  readonly startupProbe: Probe
  readonly livenessProbe: Probe
  readonly readinessProbe: Probe
  readonly resources: {
    readonly requests: Readonly<Record<string, string>>
    readonly limits: Readonly<Record<string, string>>
  }
  readonly securityContext: {
    readonly privileged?: boolean
    readonly readOnlyRootFilesystem?: boolean
    readonly allowPrivilegeEscalation?: boolean
    readonly capabilities?: { readonly drop: readonly string[]; readonly add: readonly string[] }
  }
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string; readonly readOnly?: boolean }[]
}

export interface Volume {
  readonly name: string
  readonly configMap?: { readonly name: string }
  readonly hostPath?: { readonly path: string; readonly type?: string }
}

export interface DaemonSet extends KubernetesObject {
  readonly spec: {
    readonly selector: { readonly matchLabels: Readonly<Record<string, string>> }
    readonly updateStrategy: {
      readonly type: string
      readonly rollingUpdate: { readonly maxUnavailable: string | number; readonly maxSurge?: string | number }
    }
    readonly template: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>> }
      readonly spec: {
        readonly serviceAccountName: string
        readonly hostNetwork: boolean
        readonly priorityClassName: string
        readonly tolerations: readonly object[]
        readonly initContainers?: readonly Container[]
        readonly containers: readonly Container[]
        readonly volumes: readonly Volume[]
      }
    }
  }
}

/** The one object of a kind. */
export function only<T extends KubernetesObject>(objects: readonly KubernetesObject[], kind: string): T {
  const [first, ...others] = objects.filter(object => object.kind === kind)
  if (first === undefined || others.length > 0) throw new Error(`there is not exactly one ${kind}`)
  return first as T
}

/** The one container of a DaemonSet. */
export function containerOf({ spec }: DaemonSet): Container {
  const [container, ...others] = spec.template.spec.containers
  if (container === undefined || others.length > 0) throw new Error('there is not exactly one container')
  return container
}

/**
 * The file of a ConfigMap that a path inside a container leads to, as the container's mounts and the volumes have it; throws
 * where it leads nowhere.
 */
export function mountedFile(
  { spec }: DaemonSet,
  container: Container,
  maps: readonly ConfigMap[],
  path: string,
): string {
  for (const { name, mountPath } of container.volumeMounts) {
    const volume = spec.template.spec.volumes.find(candidate => candidate.name === name)
    const map = maps.find(({ metadata }) => metadata.name === volume?.configMap?.name)
    const text = path.startsWith(`${mountPath}/`) ? map?.data[path.slice(mountPath.length + 1)] : undefined
    if (text !== undefined) return text
  }
  throw new Error(`${path} is no file of a ConfigMap as it is mounted`)
}

/** Why kubectl cannot be run here; undefined where it can. */
export const noKubectl: string | undefined = spawnSync('kubectl', ['version', '--client']).error?.message

/** Runs kubectl, which must succeed without a word on stderr, and parses what it prints. */
export function kubectl(args: readonly string[], input?: string): readonly KubernetesObject[] {
  const { status, stdout, stderr } = spawnSync('kubectl', args, {
    encoding: 'utf8',
    ...(input === undefined ? {} : { input }),
  })
  if (status !== 0 || stderr !== '') throw new Error(`kubectl ${args.join(' ')}: ${stderr}`)
  return loadAll(stdout) as KubernetesObject[]
}

/** What `kubectl apply -k` would apply. */
export const built = (folder: string): readonly KubernetesObject[] => kubectl(['kustomize', join(manifests, folder)])
