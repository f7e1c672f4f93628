// Starting the program as a person would from a shell, bundled once for each test file: it starts in a tenth of the time.
import { execFile, spawn } from 'node:child_process'
import { symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const root = join(import.meta.dirname, '../..')

/** The program's sources, which run as they are. */
export const sources = join(root, 'src/main.ts')

export interface Ended {
  /** null when a signal ended it. */
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/**
 * Bundles the program into a directory; returns the file. Sources edited later do not change it. It finds koffi, as in a
 * checkout and in the image.
 */
export async function bundle(directory: string): Promise<string> {
  const file = join(directory, 'bundle/penstock.js')
  await promisify(execFile)(process.execPath, [join(root, 'hack/build.mjs'), '--force', '--out', file])
  await symlink(join(root, 'node_modules'), join(directory, 'node_modules'))
  return file
}

/** Runs a file of the program to its end in a directory; the environment holds nothing but a search path. */
export function runFile(
  file: string,
  args: readonly string[],
  options: { cwd: string; input?: string },
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [file, ...args], {
      cwd: options.cwd,
      env: { PATH: process.env.PATH ?? '' },
      stdio: 'pipe',
    })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    child.stdin.on('error', () => undefined)
    child.stdin.end(options.input ?? '')
    child.once('error', reject)
    child.once('close', status => resolve({ status, stdout, stderr }))
  })
}
