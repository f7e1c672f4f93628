// What the log says of syncs.
import type { Logger } from '../observe/log.ts'
import { Once } from '../observe/log.ts'
import type { SyncObserver } from '../sync/contract.ts'
import { describeFailure } from './assembly.ts'

/** Repairs one after another. */
const fightAfter = 3

/** One line a sync that did something; each problem once. */
export function logging(log: Logger): SyncObserver {
  const said = new Once()
  return {
    synced: report => {
      const { family, durationMs, services, added, changed, removed, compared } = report
      const wrote = added + changed + removed > 0
      const fields = { family, durationMs: Math.round(durationMs), services, added, changed, removed, compared }
      if (wrote) log.info(fields, 'synced')
      else log.debug(fields, 'nothing to write')
      said.forget(`failed ${report.family}`)
    },
    failed: (family, error, failures) => {
      const text = describeFailure(error)
      // Tried again at once; that somebody changed the rules is told by itself.
      if (error.kind === 'stale' && failures === 0) return log.debug({ family, error: text }, 'compared again')
      if (error.patienceMs !== undefined) {
        if (said.first(`failed ${family}`, text)) log.warn({ family, error: text }, 'waiting')
        return
      }
      if (said.first(`failed ${family}`, text))
        log.error({ family, failures, error: text }, 'sync failed; it will be tried again')
    },
    setAside: item => {
      if (said.first(`aside ${item.family} ${item.servicePort}`, item.reason)) {
        log.error({ ...item }, 'the kernel refuses a Service port; it keeps its former rules, all others go on')
      }
    },
    drift: (family, found) => {
      log.warn({ family, ...found }, 'somebody removed rules of ours; they are put back')
      if (found.repeats >= fightAfter && said.first(`fight ${family}`, found.by.join())) {
        log.error({ family, by: found.by }, 'another program removes our rules again and again: two writers fight')
      }
    },
    degraded: (family, lost) => log.error({ family }, lost),
    conflict: item => {
      if (said.first(`conflict ${item.family} ${item.service} ${item.frontend}`, item.holder)) {
        log.warn({ ...item }, 'address is held by an older Service')
      }
    },
  }
}
