// What a person reads of a disagreement: the packet, how to see it again, and the smallest cluster that shows it.
import { dump } from 'js-yaml'
import { formatAddressPort } from '../../src/net/ip.ts'
import { clusterOf, type Disagreement } from './campaign.ts'
import type { compiledIn } from './modes.ts'
import { shrink } from './shrink.ts'

/** The command that traces nothing but this packet. */
export const replayOf = (seed: string, { cluster, packet }: Pick<Disagreement, 'cluster' | 'packet'>): string =>
  `hack/differential --seed ${seed} --clusters ${cluster} --packet ${packet}`

/** Shrinks the cluster and describes all of it; takes seconds. */
export async function described(
  seed: string,
  disagreement: Disagreement,
  compile?: typeof compiledIn,
): Promise<string> {
  const { cluster: number, packet, mode, sent, complaint } = disagreement
  const { src, dst, port, protocol, interface: arrived } = sent
  const whole = clusterOf(seed, number)
  const shrunk = await shrink(whole, mode, sent, compile)
  const lines = [
    `${mode} mode, cluster ${number}, packet ${packet}: ${protocol} ${src}${arrived === undefined ? '' : ` by ${arrived}`} → ${formatAddressPort(dst, port)}`,
    `  ${complaint}`,
    `  again: ${replayOf(seed, disagreement)}`,
  ]
  if (shrunk === undefined) return lines.join('\n')
  const { config, nodeAddresses, objects } = shrunk.cluster
  const bound = nodeAddresses.join(', ')
  return [
    ...lines,
    `  the smallest cluster found, ${objects.length} of ${whole.objects.length} objects: ${shrunk.complaint}`,
    `  configuration ${JSON.stringify(config)}, node addresses ${bound}`,
    ...objects.flatMap(object => ['---', dump(object).trimEnd()]),
  ].join('\n')
}
