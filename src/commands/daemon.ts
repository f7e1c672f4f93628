// Asking the daemon of this node, over its metrics address, what it says of itself.
import { get } from 'node:http'
import type { ListenAddress } from '../config/types.ts'
import { formatAddressPort } from '../net/ip.ts'
import { type DaemonAnswer, isDaemonStatus } from '../observe/status.ts'

const timeoutMs = 3_000
const noAnswer = 'no answer within 3 s'
/** Ten thousand Services that the kernel refuses would be said in less. */
const mostBytes = 16 << 20

/** `127.0.0.1:10249`: where the daemon of this configuration is asked; undefined when it serves no metrics. */
export function daemonAddress(metrics: ListenAddress): string | undefined {
  if (metrics === 'disabled') return undefined
  const { address, port } = metrics
  const host = address === '0.0.0.0' ? '127.0.0.1' : address === '::' ? '[::1]' : undefined
  return host === undefined ? formatAddressPort(address, port) : `${host}:${port}`
}

/** Asks once. Never throws. */
export async function askDaemon(metrics: ListenAddress): Promise<DaemonAnswer> {
  const address = daemonAddress(metrics)
  if (address === undefined) {
    const why = 'the daemon cannot be asked: metricsBindAddress is disabled in this configuration'
    return { kind: 'silent', why }
  }
  const url = `http://${address}/debug/status`
  try {
    const { code, body } = await fetchText(url)
    const value: unknown = code === 200 ? parsed(body) : undefined
    if (isDaemonStatus(value)) return { kind: 'status', status: value }
    const mode = code === 200 ? undefined : await modeOfAnother(address)
    const who = mode === undefined ? 'another program' : `a kube-proxy in mode ${mode}`
    return { kind: 'other', why: `${url} is answered by ${who} (status ${code}), not by a penstock of this version` }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    const why =
      `no daemon answers at ${url} (${reason}): is it running, and is this its configuration? ` +
      'Give the same --config or --metrics-bind-address as it has'
    // What takes the connection and says nothing is something all the same.
    return { kind: reason === noAnswer || /ECONNRESET/.test(reason) ? 'other' : 'silent', why }
  }
}

/** kube-proxy answers this with its mode (`kube-proxy.md` §10.1). */
async function modeOfAnother(address: string): Promise<string | undefined> {
  const { code, body } = await fetchText(`http://${address}/proxyMode`).catch(() => ({ code: 0, body: '' }))
  return code === 200 && /^[a-z]{1,20}$/.test(body) ? body : undefined
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function fetchText(url: string): Promise<{ code: number; body: string }> {
  return new Promise((resolve, reject) => {
    const request = get(url, { agent: false, signal: AbortSignal.timeout(timeoutMs) }, response => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (text: string) => {
        body += text
        if (body.length > mostBytes) request.destroy(new Error('the answer is too long'))
      })
      response.once('end', () => resolve({ code: response.statusCode ?? 0, body }))
      response.once('error', reject)
    })
    request.once('error', error => {
      reject(error.name === 'AbortError' || error.name === 'TimeoutError' ? new Error(noAnswer) : error)
    })
  })
}
