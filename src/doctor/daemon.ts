// Checks of the daemon itself: does it answer, is it in time, and who holds its ports.
import { ageText, type DaemonStatus } from '../observe/status.ts'
import { type Finding, ok } from './finding.ts'
import type { Look } from './look.ts'

/** A watch that has been silent for longer has missed several bookmarks (#76338). */
const watchSilenceMs = 10 * 60_000
/** The daemon compares everything with the kernel at least every quarter of an hour. */
const syncSilenceMs = 35 * 60_000

/** The daemon's own word, or that there is none. */
export async function daemon(look: Look): Promise<Finding[]> {
  const answer = await look.daemon()
  const id = 'daemon'
  if (answer.kind === 'status') return [...health(answer.status), ...clock(answer.status)]
  if (answer.kind === 'silent') {
    return [
      {
        id,
        severity: 'warning',
        title: answer.why,
        meaning: 'if it is to run here, Services are not followed',
        mend: 'kubectl -n kube-system get pods -o wide -l k8s-app=kube-proxy',
      },
      ...(await healthPort(look)),
    ]
  }
  const meaning = 'the daemon cannot serve its metrics there, and monitoring reads the wrong program'
  return [{ id, severity: 'problem', title: answer.why, meaning, mend: "ss -ltnp 'sport = :10249'" }]
}

/** Where the load balancers of clouds ask. */
async function healthPort(look: Look): Promise<Finding[]> {
  if (!(await look.listens(10_256))) return [ok('health-port', 'port 10256 is free for the daemon')]
  return [
    {
      id: 'health-port',
      severity: 'problem',
      title: 'no daemon answers, and another program listens on port 10256',
      meaning:
        'load balancers take that program’s answer for the health of this node, and the daemon will not get the port',
      mend: "ss -ltnp 'sport = :10256'",
    },
  ]
}

function health(status: DaemonStatus): Finding[] {
  const mend = 'penstock status'
  const found: Finding[] = status.problems.map(title => ({
    id: 'daemon',
    severity: 'problem',
    title,
    meaning: 'the daemon says so of itself',
    mend,
  }))
  for (const { family, failures, lastError, setAside } of status.families) {
    if (failures > 0) {
      found.push({
        id: 'daemon',
        severity: 'problem',
        title: `${family}: ${failures} syncs failed one after another: ${lastError ?? 'no reason given'}`,
        meaning: 'the rules are as they were before; changes of Services are not followed',
        mend,
      })
    }
    if (setAside.length > 0) {
      found.push({
        id: 'daemon',
        severity: 'problem',
        title: `${family}: the kernel refuses ${setAside.length} Service ports, such as ${setAside[0]?.servicePort}`,
        meaning: 'these keep their former rules; all others go on',
        mend,
      })
    }
  }
  return found.length > 0 ? found : [ok('daemon', `the daemon runs in mode ${status.mode} and has no complaint`)]
}

function clock({ families, watches, now }: DaemonStatus): Finding[] {
  const id = 'last-sync'
  const since = (time: string): number => Date.parse(now) - Date.parse(time)
  const late = families.filter(({ lastSync }) => lastSync === null || since(lastSync) > syncSilenceMs)
  const mute = watches.filter(({ lastEvent }) => lastEvent === null || since(lastEvent) > watchSilenceMs)
  const found: Finding[] = late.map(({ family, lastSync }) => ({
    id,
    severity: 'problem',
    title: `${family}: ${lastSync === null ? 'never synced' : `last synced ${ageText(lastSync, now)} ago`}`,
    meaning: 'the kernel is compared with the cluster at least every quarter of an hour; the daemon hangs, or fails',
    mend: 'penstock status',
  }))
  if (mute.length > 0) {
    found.push({
      id: 'watches',
      severity: 'warning',
      title: `nothing heard of for over ten minutes: ${mute.map(({ kind }) => kind).join(', ')}`,
      meaning: 'the API server sends at least a bookmark a minute: changes of these may be missed',
      mend: 'penstock status',
    })
  }
  if (found.length > 0) return found
  const [family] = families
  return family === undefined || family.lastSync === null
    ? []
    : [ok(id, `last synced ${ageText(family.lastSync, now)} ago`)]
}
