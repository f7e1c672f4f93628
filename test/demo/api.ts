// The demo's hand on the API server: creates, replaces and deletes objects over HTTPS with the kubeconfig's token. Run by
// `Sandbox.worker`, as the server can be reached from inside only.
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { load } from 'js-yaml'
import { answerCalls } from '../support/netns/calls.ts'
import { type ApiObject, namespace, type ObjectReference } from './objects.ts'

interface Kubeconfig {
  readonly clusters: readonly {
    readonly cluster: { readonly server: string; readonly 'certificate-authority-data': string }
  }[]
  readonly users: readonly { readonly user: { readonly token: string } }[]
}

const collections: Record<ObjectReference['kind'], string> = {
  Node: '/api/v1/nodes',
  Service: `/api/v1/namespaces/${namespace}/services`,
  EndpointSlice: `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`,
}

const config = load(readFileSync(process.argv[2] ?? '', 'utf8')) as Kubeconfig
const cluster = config.clusters[0]?.cluster
const token = config.users[0]?.user.token
if (cluster === undefined || token === undefined) throw new Error('the kubeconfig names no cluster or no user')
const agent = new Agent({ keepAlive: true, ca: Buffer.from(cluster['certificate-authority-data'], 'base64') })

function call(method: string, path: string, body?: object): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json'
    const sent = request(
      new URL(path, cluster?.server),
      { method, agent, headers: { authorization: `Bearer ${token}`, 'content-type': type } },
      response => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => {
          text += chunk
        })
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
        response.on('error', reject)
      },
    )
    sent.on('error', reject)
    sent.end(body === undefined ? undefined : JSON.stringify(body))
  })
}

async function must(method: string, path: string, body?: object): Promise<void> {
  const { status, text } = await call(method, path, body)
  if (status >= 300) throw new Error(`${method} ${path}: ${status} ${text}`)
}

async function apply({ object }: { object: ApiObject }): Promise<void> {
  const collection = collections[object.kind]
  const { metadata, status } = object
  const path = `${collection}/${metadata.name}`
  const created = await call('POST', collection, object)
  if (created.status === 409) await must('PATCH', path, object)
  else if (created.status >= 300) throw new Error(`POST ${collection}: ${created.status} ${created.text}`)
  // What is true of an object is written apart from what is wished for, as controllers do.
  if (status !== undefined && object.kind !== 'EndpointSlice') await must('PATCH', `${path}/status`, { status })
}

const methods = {
  apply,
  remove: ({ kind, name }: ObjectReference): Promise<void> => must('DELETE', `${collections[kind]}/${name}`),
}
export type ApiMethods = typeof methods

process.on('SIGINT', () => undefined)
answerCalls(methods)
