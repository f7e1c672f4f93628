// What may stay of IPVS after a switch: what living connections need, and no more.
import { expect, test } from 'vitest'
import { commonKinds, ipvs, orderedPairs } from './kinds.ts'

const device = '9: kube-ipvs0: <BROADCAST,NOARP> mtu 1500 qdisc noop state DOWN mode DEFAULT group default'
const route = 'local 10.96.0.20 dev lo scope host metric 112 '
const draining = [
  '-A -t 10.96.0.20:80 -s rr',
  '-a -t 10.96.0.20:80 -r 10.244.1.11:8080 -m -w 0',
  '-a -t 10.96.0.20:80 -r 10.244.2.11:8080 -m -w 0',
  '-A -f 6 -6 -s rr',
  '-a -f 6 -6 -r [fd00:10:244:1::11]:8080 -m -w 0',
]
const atWork = [
  '-A -u 10.96.0.21:80 -s rr',
  '-a -u 10.96.0.21:80 -r 10.244.1.11:8080 -m -w 0',
  '-a -u 10.96.0.21:80 -r 10.244.2.11:8080 -m -w 10',
]
const refusing = ['-A -t 10.96.0.25:80 -s rr']

test('virtual servers stay while all their real servers drain, and the device, routes and sets with them', () => {
  const others = ['-A PENSTOCKVS-SERVICES -j RETURN', ':PENSTOCKVS-SERVICES - [0:0]']
  const means = ['set PENSTOCK-MARK', device, route]
  const stays = ipvs.livesWithFlows([...others, ...means, ...draining, ...atWork, ...refusing])
  expect(stays).toEqual([...draining, ...means])
  expect(ipvs.livesWithFlows([...others, ...means, ...atWork, ...refusing])).toEqual([])
  expect(ipvs.livesWithFlows(means)).toEqual([])
  for (const kind of commonKinds) expect(kind.livesWithFlows(['table ip penstock'])).toEqual([])
})

test('every ordered pair', () => {
  const pairs = orderedPairs([...commonKinds, ipvs]).map(([from, to]) => `${from.name} ${to.name}`)
  expect(new Set(pairs).size).toBe(12)
  expect(pairs).toContain('ipvs iptables-legacy')
  expect(pairs).toContain('iptables-legacy ipvs')
})
