// The kubeconfig through which a client reaches the server.
import { dump } from 'js-yaml'

export interface KubeconfigParts {
  readonly server: string
  /** PEM. */
  readonly ca: string
  readonly token: string
  /** A file the client shall read the token from, again and again, instead of the token itself. */
  readonly tokenFile?: string
  /** A file the client shall read the CA from instead of the embedded one. */
  readonly caFile?: string
}

/** YAML text of a kubeconfig; unless files are named, CA and token are embedded. */
export const kubeconfigText = (parts: KubeconfigParts): string =>
  dump({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      {
        name: 'embedded',
        cluster: {
          server: parts.server,
          ...(parts.caFile === undefined
            ? { 'certificate-authority-data': Buffer.from(parts.ca).toString('base64') }
            : { 'certificate-authority': parts.caFile }),
        },
      },
    ],
    users: [
      {
        name: 'embedded',
        user: parts.tokenFile === undefined ? { token: parts.token } : { tokenFile: parts.tokenFile },
      },
    ],
    contexts: [{ name: 'embedded', context: { cluster: 'embedded', user: 'embedded', namespace: 'default' } }],
    'current-context': 'embedded',
  })
