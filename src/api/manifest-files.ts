// Which files the paths of --manifests name now, and how to notice that this, or their contents, changed.
import { type Dirent, type FSWatcher, watch as watchPath } from 'node:fs'
import { readdir, realpath, stat } from 'node:fs/promises'
import path from 'node:path'
import { codeOf } from './errors.ts'

/** One file to read. */
export interface ManifestFile {
  readonly path: string
  /** Equal as long as nothing wrote to the file or put another in its place. */
  readonly fingerprint: string
}

export interface Listing {
  /** In the order in which later ones win: that of the paths given, and by name inside a directory. */
  readonly files: readonly ManifestFile[]
  /** Directories in which a change may change the listing. */
  readonly directories: ReadonlySet<string>
  /** Paths that could not be looked at, and why. */
  readonly errors: ReadonlyMap<string, Error>
}

/** Lists every manifest under the given paths. A path that does not exist is an error in the listing, not a throw. */
export async function listManifests(paths: readonly string[]): Promise<Listing> {
  const listing = { files: [] as ManifestFile[], directories: new Set<string>(), errors: new Map<string, Error>() }
  for (const given of paths) {
    listing.directories.add(path.dirname(path.resolve(given)))
    await listPath(given, true, new Set(), listing)
  }
  return listing
}

interface OpenListing {
  readonly files: ManifestFile[]
  readonly directories: Set<string>
  readonly errors: Map<string, Error>
}

async function listPath(at: string, given: boolean, above: ReadonlySet<string>, listing: OpenListing): Promise<void> {
  try {
    const status = await stat(at, { bigint: true })
    if (status.isDirectory()) await listDirectory(at, above, listing)
    else if (given || /\.(ya?ml|json)$/i.test(at)) {
      const fingerprint = `${status.dev}:${status.ino}:${status.size}:${status.mtimeNs}:${status.ctimeNs}`
      if (!listing.files.some(file => file.path === at)) listing.files.push({ path: at, fingerprint })
    }
  } catch (error) {
    // Inside a directory: gone between the listing and the look, or a link to nothing.
    if (given || codeOf(error) !== 'ENOENT')
      listing.errors.set(at, error instanceof Error ? error : new Error(String(error)))
  }
}

async function listDirectory(at: string, above: ReadonlySet<string>, listing: OpenListing): Promise<void> {
  const real = await realpath(at)
  if (above.has(real)) return
  listing.directories.add(path.resolve(at))
  const inside = new Set([...above, real])
  const entries: Dirent[] = await readdir(at, { withFileTypes: true })
  for (const { name } of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    // Hidden: editors' working copies, and the directories that a mounted ConfigMap swaps behind its links.
    if (!name.startsWith('.')) await listPath(path.join(at, name), false, inside, listing)
  }
}

/** Watches a changing set of directories. Events may be lost or absent (network file systems): a slow poll goes with it. */
export class DirectoryWatches {
  readonly #watchers = new Map<string, FSWatcher>()
  readonly #onChange: () => void

  constructor(onChange: () => void) {
    this.#onChange = onChange
  }

  /** Watches exactly these from now on. What cannot be watched is left to the poll. */
  set(directories: ReadonlySet<string>): void {
    for (const [directory, watcher] of this.#watchers) {
      if (directories.has(directory)) continue
      watcher.close()
      this.#watchers.delete(directory)
    }
    for (const directory of directories) if (!this.#watchers.has(directory)) this.#add(directory)
  }

  close(): void {
    this.set(new Set())
  }

  #add(directory: string): void {
    try {
      const watcher = watchPath(directory, { persistent: false }, this.#onChange)
      watcher.on('error', () => this.#drop(directory, watcher))
      this.#watchers.set(directory, watcher)
    } catch {
      // Gone already, or the limit of inotify watches is reached.
    }
  }

  #drop(directory: string, watcher: FSWatcher): void {
    watcher.close()
    if (this.#watchers.get(directory) === watcher) this.#watchers.delete(directory)
    this.#onChange()
  }
}
