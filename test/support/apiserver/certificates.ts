// A certificate authority and the server certificate it signs, made in this process: no openssl program is needed.
import { isIP } from 'node:net'
import { generate } from 'selfsigned'

export interface Authority {
  /** PEM. */
  readonly cert: string
  readonly key: string
}

export interface ServerCertificate {
  /** PEM. */
  readonly cert: string
  readonly key: string
}

const day = 86_400_000

/** Clocks of clients may be behind: validity begins a day ago. */
const validity = () => ({ notBeforeDate: new Date(Date.now() - day), notAfterDate: new Date(Date.now() + 3650 * day) })

/** Makes an authority. The name tells one from another in error messages. */
export async function makeAuthority(name: string): Promise<Authority> {
  const made = await generate([{ name: 'commonName', value: name }], {
    ...validity(),
    keyType: 'ec',
    algorithm: 'sha256',
    extensions: [
      { name: 'basicConstraints', cA: true, critical: true },
      { name: 'keyUsage', keyCertSign: true, cRLSign: true, digitalSignature: true, critical: true },
    ],
  })
  return { cert: made.cert, key: made.private }
}

/** Makes a server certificate for these names and addresses, signed by the authority. */
export async function makeServerCertificate(
  authority: Authority,
  hosts: readonly string[],
): Promise<ServerCertificate> {
  const made = await generate([{ name: 'commonName', value: 'kube-apiserver' }], {
    ...validity(),
    keyType: 'ec',
    algorithm: 'sha256',
    ca: authority,
    extensions: [
      { name: 'basicConstraints', cA: false, critical: true },
      { name: 'keyUsage', digitalSignature: true, critical: true },
      { name: 'extKeyUsage', serverAuth: true },
      {
        name: 'subjectAltName',
        altNames: [...new Set(hosts)].map(host =>
          isIP(host) === 0 ? { type: 2, value: host } : { type: 7, ip: host },
        ),
      },
    ],
  })
  return { cert: made.cert, key: made.private }
}
