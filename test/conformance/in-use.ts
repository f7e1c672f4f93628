// Which addresses Services have at each step of a scenario, whatever ports they define there.
import type { ServiceRecord } from '../../src/model/records.ts'
import type { Scenario } from './scenario.ts'
import { eventsOf } from './subject.ts'

/** Addresses of the Services that this node serves. */
export interface InUse {
  readonly clusterIPs: ReadonlySet<string>
  /** External IPs and load balancer addresses. */
  readonly others: ReadonlySet<string>
}

/** By step, once its changes are made. */
export function addressesInUse({ steps }: Scenario): readonly InUse[] {
  const services = new Map<string, ServiceRecord>()
  return steps.map(step => {
    for (const event of eventsOf(step)) {
      if (event.kind !== 'Service') continue
      if (event.record === undefined) services.delete(event.key)
      else services.set(event.key, event.record)
    }
    const records = [...services.values()]
    return {
      clusterIPs: new Set(records.flatMap(({ clusterIPs }) => clusterIPs)),
      others: new Set(records.flatMap(({ externalIPs, loadBalancerIPs }) => [...externalIPs, ...loadBalancerIPs])),
    }
  })
}
