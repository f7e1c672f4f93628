// Who we are to the API server: client-node's KubeConfig, for authentication only. No other file imports that package.
import { readFileSync } from 'node:fs'
import type http from 'node:http'
import type https from 'node:https'
import path from 'node:path'
import { KubeConfig } from '@kubernetes/client-node'
import { load } from 'js-yaml'
import { messageOf, StreamError } from './errors.ts'
import { isObject, type JSONObject, listAt, objectAt, stringAt } from './fields.ts'
import {
  type Connection,
  type Credentials,
  createConnection,
  type Identity,
  type TransportOptions,
} from './transport.ts'

export interface ConnectionOptions extends Omit<TransportOptions, 'open'> {
  /** Path of a kubeconfig; empty or absent with no `master`: in-cluster. */
  readonly kubeconfig?: string
  /** URL of the server; wins over the kubeconfig's. */
  readonly master?: string
  /** Root of the file system in which the service account lies; for tests. */
  readonly root?: string
}

/**
 * Opens a connection: reads the kubeconfig, or the pod's service account; dials nothing yet.
 * @throws Error with one sentence when they cannot be read or used.
 */
export function openConnection(options: ConnectionOptions): Connection {
  return createConnection({ ...options, open: () => openCredentials(options) })
}

function openCredentials(options: ConnectionOptions): Credentials {
  const { config, tokenFile } = loadConfig(options)
  // Without a user client-node would not apply the cluster's CA either.
  if (config.getCurrentUser() === null) config.loadFromClusterAndUser(currentCluster(config), { name: 'anonymous' })
  const server = currentCluster(config).server
  const hasProxy = currentCluster(config).proxyUrl !== undefined
  return {
    server,
    resolve: async () => {
      try {
        return await resolveIdentity(config, tokenFile, hasProxy)
      } catch (error) {
        throw new StreamError('credentials', `cannot get credentials for ${server}: ${messageOf(error)}`, {
          cause: error,
        })
      }
    },
  }
}

interface LoadedConfig {
  readonly config: KubeConfig
  /** Read for every request: a service account's token is replaced every hour. */
  readonly tokenFile: string | undefined
}

function loadConfig(options: ConnectionOptions): LoadedConfig {
  const master = options.master ?? ''
  const file = options.kubeconfig ?? ''
  if (file !== '') return loadKubeconfig(file, master)
  const config = new KubeConfig()
  if (master !== '') {
    const server = withScheme(master, 'http')
    const plain = server.startsWith('http:')
    config.loadFromClusterAndUser({ name: 'master', server, skipTLSVerify: plain }, { name: 'anonymous' })
    return { config, tokenFile: undefined }
  }
  config.loadFromCluster(options.root ?? '')
  const cluster = currentCluster(config)
  if (cluster.server.includes('undefined')) {
    throw new Error(
      'no API server is given: use --kubeconfig, --master or --manifests, or run in a pod (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set)',
    )
  }
  config.clusters = [{ ...cluster, skipTLSVerify: cluster.server.startsWith('http:') }]
  return { config, tokenFile: takeTokenFile(config) }
}

function loadKubeconfig(file: string, master: string): LoadedConfig {
  const config = new KubeConfig()
  let raw: unknown
  try {
    const text = readFileSync(file, 'utf8')
    raw = load(text)
    if (!isObject(raw)) throw new Error('it is not a YAML mapping')
    config.loadFromString(text)
  } catch (error) {
    throw new Error(`cannot read kubeconfig ${file}: ${messageOf(error)}`, { cause: error })
  }
  const directory = path.dirname(path.resolve(file))
  config.makePathsAbsolute(directory)
  const cluster = config.getContextObject(config.currentContext) === null ? null : config.getCurrentCluster()
  if (cluster === null && master === '') {
    const context = JSON.stringify(config.currentContext ?? '')
    throw new Error(`kubeconfig ${file}: current-context ${context} names no context with a cluster in this file`)
  }
  if (cluster === null)
    config.loadFromClusterAndUser({ name: 'master', server: '', skipTLSVerify: false }, { name: '' })
  const current = currentCluster(config)
  const server = withScheme(master === '' ? current.server : master, 'https')
  // client-node refuses plain HTTP unless TLS verification is off; there is nothing to verify then anyway.
  const effective = { ...current, server, skipTLSVerify: current.skipTLSVerify || server.startsWith('http:') }
  config.clusters = config.clusters.map(other => (other.name === current.name ? effective : other))
  const user = rawUser(raw, config)
  const exec = prepareExec(objectAt(user, 'exec'), effective, directory)
  if (exec !== undefined) amendCurrentUser(config, { exec })
  // client-node 2.0.1 knows `token-file`, not the `tokenFile` that kubeadm writes for kube-proxy.
  const tokenFile = stringAt(user, 'tokenFile') || stringAt(user, 'token-file')
  return { config, tokenFile: tokenFile === '' ? takeTokenFile(config) : path.resolve(directory, tokenFile) }
}

function currentCluster(config: KubeConfig) {
  const cluster = config.getCurrentCluster()
  if (cluster === null) throw new Error('the kubeconfig names no cluster')
  return cluster
}

const withScheme = (server: string, scheme: string): string =>
  (/^[a-z]+:\/\//i.test(server) ? server : `${scheme}://${server}`).replace(/\/+$/, '')

function rawUser(raw: unknown, config: KubeConfig): JSONObject {
  const name = config.getCurrentUser()?.name
  const entries = isObject(raw) ? listAt(raw, 'users').filter(isObject) : []
  return objectAt(entries.find(entry => entry.name === name) ?? {}, 'user')
}

/** Takes the token's file out of client-node's hands: it would keep a token for a minute, with its newline. */
function takeTokenFile(config: KubeConfig): string | undefined {
  const provider: unknown = config.getCurrentUser()?.authProvider
  const tokenFile = isObject(provider) ? stringAt(objectAt(provider, 'config'), 'tokenFile') : ''
  if (tokenFile === '') return undefined
  amendCurrentUser(config, { authProvider: undefined })
  return tokenFile
}

function amendCurrentUser(config: KubeConfig, change: { exec?: JSONObject; authProvider?: undefined }): void {
  const name = config.getCurrentUser()?.name
  config.users = config.users.map(user => (user.name === name ? { ...user, ...change } : user))
}

/** What client-go does for exec plugins and client-node 2.0.1 does not: cluster info, and paths beside the kubeconfig. */
function prepareExec(
  exec: JSONObject,
  cluster: ReturnType<typeof currentCluster>,
  directory: string,
): JSONObject | undefined {
  const command = stringAt(exec, 'command')
  if (command === '') return undefined
  const info = {
    apiVersion: stringAt(exec, 'apiVersion') || 'client.authentication.k8s.io/v1',
    kind: 'ExecCredential',
    spec: {
      interactive: false,
      ...(exec.provideClusterInfo === true
        ? { cluster: { server: cluster.server, 'certificate-authority-data': cluster.caData } }
        : {}),
    },
  }
  return {
    ...exec,
    command: command.includes('/') ? path.resolve(directory, command) : command,
    env: [...listAt(exec, 'env'), { name: 'KUBERNETES_EXEC_INFO', value: JSON.stringify(info) }],
  }
}

async function resolveIdentity(
  config: KubeConfig,
  tokenFile: string | undefined,
  hasProxy: boolean,
): Promise<Identity> {
  const options: https.RequestOptions = {}
  await config.applyToHTTPSOptions(options)
  const headers: Record<string, string> = {}
  for (const [name, value] of Object.entries(options.headers ?? {})) headers[name.toLowerCase()] = String(value).trim()
  if (typeof options.auth === 'string') {
    headers.authorization = `Basic ${Buffer.from(options.auth).toString('base64')}`
  }
  if (tokenFile !== undefined) headers.authorization = `Bearer ${readFileSync(tokenFile, 'utf8').trim()}`
  const tls: https.AgentOptions = {
    ...(options.ca === undefined ? {} : { ca: options.ca }),
    ...(options.cert === undefined ? {} : { cert: options.cert }),
    ...(options.key === undefined ? {} : { key: options.key }),
    ...(options.servername === undefined ? {} : { servername: options.servername }),
    ...(options.rejectUnauthorized === undefined ? {} : { rejectUnauthorized: options.rejectUnauthorized }),
  }
  const agent = hasProxy ? agentOf(options) : undefined
  return { headers, tls, ...(agent === undefined ? {} : { agent }) }
}

const agentOf = (options: https.RequestOptions): http.Agent | undefined =>
  typeof options.agent === 'object' ? options.agent : undefined
