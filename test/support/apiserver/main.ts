// The API server as a process of its own: `node main.ts --listen IP:PORT --kubeconfig-out FILE --load FILE.yaml …`.
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { loadAll } from 'js-yaml'
import { isObject, type JsonObject } from './json.ts'
import { startApiServer } from './server.ts'

const usage = `usage: node main.ts [options]
  --listen IP:PORT        address to serve on (default 127.0.0.1:0: any free port; IPv6 in brackets)
  --host NAME-OR-IP       the server as clients know it: for the certificate (repeatable) and, the first, the kubeconfig
  --kubeconfig-out FILE   where to write a kubeconfig with CA and token
  --load FILE             YAML or JSON with objects to begin with (repeatable)
  --service-cidr CIDRS    where cluster IPs come from (default 10.96.0.0/16,fd00:10:96::/112)
  --token TOKEN           the bearer token (default: a random one)`

/** Reads the objects of a YAML file: several documents, Lists. Throws an Error if one cannot be. */
function readObjects(file: string): JsonObject[] {
  const objects: JsonObject[] = []
  for (const document of loadAll(readFileSync(file, 'utf8'))) {
    if (document === null || document === undefined) continue
    if (!isObject(document)) throw new Error('a document is not an object')
    if (Array.isArray(document.items)) objects.push(...document.items.filter(isObject))
    else objects.push(document)
  }
  return objects
}

function parseListen(text: string): { address: string; port: number } {
  const parsed = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(text)
  const address = parsed?.[1] ?? parsed?.[2]
  if (address === undefined) throw new Error(`--listen ${text}: must be IP:PORT, IPv6 in brackets`)
  return { address, port: Number(parsed?.[3]) }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      listen: { type: 'string', default: '127.0.0.1:0' },
      host: { type: 'string', multiple: true, default: [] },
      'kubeconfig-out': { type: 'string' },
      load: { type: 'string', multiple: true, default: [] },
      'service-cidr': { type: 'string', default: '10.96.0.0/16,fd00:10:96::/112' },
      token: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    process.stdout.write(`${usage}\n`)
    return
  }
  const serviceCIDRs = values['service-cidr'].split(',')
  const server = await startApiServer({
    ...parseListen(values.listen),
    certificateHosts: values.host,
    serviceCIDRs,
    ...(values.token === undefined ? {} : { token: values.token }),
  })
  server.put({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'ServiceCIDR',
    metadata: { name: 'kubernetes' },
    spec: { cidrs: serviceCIDRs },
  })
  for (const file of values.load) {
    try {
      server.put(readObjects(file))
    } catch (error) {
      await server.stop()
      throw new Error(`--load ${file}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  const host = values.host[0]
  const kubeconfig = values['kubeconfig-out']
  if (kubeconfig !== undefined) writeFileSync(kubeconfig, server.kubeconfig(host), { mode: 0o600 })
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => void server.stop().then(() => process.exit(0)))
  }
  const url = host === undefined ? server.url : server.urlFor(host)
  process.stdout.write(`${JSON.stringify({ ready: true, url, port: server.port, kubeconfig, pid: process.pid })}\n`)
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
})
