// Bundles src/main.ts into the one file that is shipped, dist/penstock.js, unless it is newer than everything it is made of.
// Usage: node hack/build.mjs [--force] [--entry FILE] [--out FILE]. Prints on stderr only.
import { realpathSync } from 'node:fs'
import { chmod, mkdir, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { build } from 'esbuild'

const root = resolve(import.meta.dirname, '..')
const clientNode = realpathSync(join(root, 'node_modules/@kubernetes/client-node/dist'))

// client-node is used to read a kubeconfig and nothing else. Without these packages the daemon starts in 0.1 s instead of
// 0.7 s and keeps 62 MB instead of 138 MB. Each is replaced by one that says what it cannot do when it is used.
const stubs = {
  undici: {
    names: ['Agent', 'ProxyAgent', 'fetch'],
    sentence: 'this build speaks to the API server with node:https only; undici is not part of it',
  },
  'openid-client': {
    names: ['refreshTokenGrant', 'discovery', 'customFetch'],
    sentence:
      'the kubeconfig asks for the auth-provider "oidc", which this build cannot refresh; use an exec plugin or a token',
  },
  'jsonpath-plus': {
    names: ['JSONPath'],
    sentence:
      'the kubeconfig asks for the auth-provider "gcp" or "azure", which this build cannot run; use an exec plugin',
  },
  socks: {
    names: ['SocksClient'],
    sentence: 'the kubeconfig asks for a SOCKS proxy (proxy-url), which this build does not support',
  },
  'socks-proxy-agent': {
    names: ['SocksProxyAgent'],
    sentence: 'the kubeconfig asks for a SOCKS proxy (proxy-url), which this build does not support',
  },
  hpagent: {
    names: ['HttpProxyAgent', 'HttpsProxyAgent'],
    sentence: 'the kubeconfig asks for an HTTP proxy (proxy-url), which this build does not support',
  },
  // Used by client-node's generated API, exec, attach and cp, none of which is reached.
  'isomorphic-ws': { names: ['default'], sentence: 'web sockets are not part of this build' },
  'tar-fs': { names: ['default'], sentence: 'copying files out of pods is not part of this build' },
  'stream-buffers': {
    names: ['WritableStreamBuffer'],
    sentence: 'copying files out of pods is not part of this build',
  },
}

function stubSource({ names, sentence }) {
  const refuse = `function refuse() { throw new Error(${JSON.stringify(sentence)}) }`
  const lines = names.map(name => {
    if (name === 'customFetch') return `export const customFetch = Symbol('customFetch')`
    return name === 'default' ? 'export default refuse' : `export { refuse as ${name} }`
  })
  return [refuse, ...lines].join('\n')
}

const lean = {
  name: 'lean-client-node',
  setup(builder) {
    const filter = new RegExp(`^(${Object.keys(stubs).join('|')})$`)
    builder.onResolve({ filter }, args => ({ path: args.path, namespace: 'stub', sideEffects: false }))
    builder.onLoad({ filter: /.*/, namespace: 'stub' }, args => ({
      contents: stubSource(stubs[args.path]),
      loader: 'js',
    }))
    // The package does not say so itself, but its modules do nothing when loaded: what is not named can go.
    builder.onResolve({ filter: /^@kubernetes\/client-node$/ }, () => ({
      path: join(clientNode, 'index.js'),
      sideEffects: false,
    }))
    builder.onResolve({ filter: /^\.\.?\/.*\.js$/ }, args =>
      args.importer.startsWith(clientNode) ? { path: join(args.resolveDir, args.path), sideEffects: false } : undefined,
    )
  },
}

async function newestSource(path) {
  const entry = await stat(path)
  if (!entry.isDirectory()) return entry.mtimeMs
  let newest = entry.mtimeMs
  for (const name of await readdir(path)) newest = Math.max(newest, await newestSource(join(path, name)))
  return newest
}

async function isFresh(out) {
  const built = await stat(out).catch(() => undefined)
  if (built === undefined) return false
  for (const source of ['src', 'hack/build.mjs', 'package.json', 'package-lock.json']) {
    if ((await newestSource(join(root, source))) > built.mtimeMs) return false
  }
  return true
}

async function bundle(entry, out) {
  // The file bears the time the build began: a source saved while it runs makes the next build run again.
  const began = new Date()
  const fresh = `${out}.${process.pid}.tmp`
  await mkdir(dirname(out), { recursive: true })
  try {
    await build({
      entryPoints: [entry],
      outfile: fresh,
      bundle: true,
      platform: 'node',
      target: 'node24',
      // An ES module that imports node:http makes Node read all its exports, one of which loads a whole fetch: 0.1 s more.
      format: 'cjs',
      minify: false,
      legalComments: 'none',
      logLevel: 'warning',
      plugins: [lean],
      banner: { js: '#!/usr/bin/env node' },
      // What the platform-specific package brings is loaded at run time, if it is there at all.
      external: ['koffi'],
    })
    await chmod(fresh, 0o755)
    await utimes(fresh, began, began)
    await writeFile(join(dirname(out), 'package.json'), '{ "type": "commonjs" }\n')
    await rename(fresh, out)
  } finally {
    await rm(fresh, { force: true })
  }
}

const { values } = parseArgs({
  options: { force: { type: 'boolean' }, entry: { type: 'string' }, out: { type: 'string' } },
})
const out = resolve(root, values.out ?? 'dist/penstock.js')
if (values.force || !(await isFresh(out))) {
  try {
    await bundle(resolve(root, values.entry ?? 'src/main.ts'), out)
  } catch (error) {
    // esbuild has already said what is wrong, and where.
    if (!Array.isArray(error.errors)) throw error
    process.exitCode = 1
  }
}
