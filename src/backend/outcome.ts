// From the ways that a walk over rules has found to the answer of `trace`: the same for every backend.
import type { ServicePortName } from '../policy/service-port.ts'
import type { Outcome, TracedEndpoint, TracedRule } from './backend.ts'

/** One way a packet may take. */
export interface Way {
  /** Probability that it takes this one. */
  readonly weight: number
  /** `10.0.1.2:8080` once it has been given one. */
  readonly endpoint: string | undefined
  readonly refusal: 'drop' | 'reject' | undefined
  readonly masqueraded: boolean
}

/** Adds the ways up. Probabilities are rounded to six decimals; endpoints are sorted by their text. */
export function outcomeOf(
  ways: Iterable<Way>,
  servicePort: ServicePortName | null,
  path: readonly TracedRule[],
): Outcome {
  const byAddress = new Map<string, TracedEndpoint>()
  const verdicts = new Set<Outcome['verdict']>()
  for (const { weight, endpoint, refusal, masqueraded } of ways) {
    if (weight <= 0) continue
    if (refusal !== undefined) verdicts.add(refusal)
    else if (endpoint === undefined) verdicts.add('none')
    else {
      verdicts.add('dnat')
      const before = byAddress.get(endpoint)
      byAddress.set(endpoint, {
        address: endpoint,
        probability: (before?.probability ?? 0) + weight,
        masquerade: (before?.masquerade ?? false) || masqueraded,
      })
    }
  }
  // Several verdicts by chance are not something we compile; the worst is shown rather than hidden.
  const verdict = (['drop', 'reject', 'none', 'dnat'] as const).find(name => verdicts.has(name)) ?? 'none'
  const endpoints = [...byAddress.values()].sort((a, b) => (a.address < b.address ? -1 : 1))
  return {
    verdict,
    endpoints: endpoints.map(item => ({ ...item, probability: Number(item.probability.toFixed(6)) })),
    masquerade: endpoints.some(item => item.masquerade),
    servicePort,
    path,
  }
}
