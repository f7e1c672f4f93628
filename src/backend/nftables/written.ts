// What became of a step that was written, whoever wrote it.
import type { Family } from '../../net/ip.ts'
import { CommitError } from '../backend.ts'
import { tableOf } from './names.ts'

/**
 * `busy`: what is to be deleted is in use for a moment. `too-long`: more than goes to the kernel at once. Nothing is
 * written but where it says `written`; after a failure of the kind `transient` that is not known.
 */
export type Written = 'written' | { readonly kind: 'busy' | 'too-long' | 'failed'; readonly error: CommitError }

/** Nobody tells that an owner has ended; in a rolling update it does soon. */
export const ownerPatienceMs = 500

/** The kernel lets only the owner write to a table that has one (5.12). */
export const isOwned = (family: Family): CommitError =>
  new CommitError(
    'transient',
    `the table ${tableOf(family)} belongs to another process, which alone may write to it until it ends`,
    { patienceMs: ownerPatienceMs },
  )
