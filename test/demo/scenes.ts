// What the demo shows: each scene changes the cluster, sends requests, and says what should have come of them.
import { type Answers, answered, type Cluster, failed } from './cluster.ts'
import { nodes, type Pod, senders, serviceObject, sliceObject, webPods } from './objects.ts'
import type { Row } from './table.ts'

export type Scene = (cluster: Cluster) => Promise<readonly Row[]>

const [web1, web2, web3, web4, web5] = webPods as readonly [Pod, Pod, Pod, Pod, Pod]
const three = [web1, web2, web3]
const names = (pods: readonly Pod[]): string[] => pods.map(pod => pod.name)

const clusterIP = '10.96.0.10'
const address = { cluster: `${clusterIP}:80`, local: '203.0.113.20:80', balanced: '203.0.113.10:80' }
const nodePort = 30080

// Expected numbers come from probabilities with few digits: 19.9998 is 20.
const share = (count: number): string => `${Math.round(count * 10) / 10}`

/** `web-1 ×20, web-2 ×19; 3 refused`. */
function describe(answers: Answers): string {
  const parts = [...answers.by].sort(([a], [b]) => (a < b ? -1 : 1)).map(([pod, count]) => `${pod} ×${share(count)}`)
  const rest = [
    ...(answers.refused > 0 ? [`${answers.refused} refused`] : []),
    ...(answers.silent > 0 ? [`${answers.silent} without an answer`] : []),
    ...[...new Set(answers.errors)].map(error => `${answers.errors.filter(e => e === error).length}× ${error}`),
  ]
  return [...(parts.length > 0 ? [parts.join(', ')] : []), ...rest].join('; ') || 'nothing'
}

const row = (shows: string, sent: string, result: string, good: boolean): Row => ({
  shows,
  sent,
  result,
  verdict: good ? 'ok' : 'FAIL',
})

/** Every request was answered, by exactly these pods. */
const spreadOver = (answers: Answers, pods: readonly Pod[]): boolean =>
  failed(answers) === 0 && answers.by.size === pods.length && names(pods).every(name => answers.by.has(name))

const afterwards = (cluster: Cluster, ms: number): string =>
  cluster.kind === 'real' ? `, first answer after ${Math.round(ms)} ms` : ''

const clusterIPSpreads: Scene = async cluster => {
  await Promise.all(three.map(pod => cluster.startPod(pod)))
  await cluster.apply(
    serviceObject('web', clusterIP, { type: 'NodePort', nodePort }),
    sliceObject(
      'web',
      three.map(pod => ({ pod })),
    ),
  )
  const took = await cluster.settle({ from: 'pod', to: address.cluster }, answers => answered(answers) > 0)
  await cluster.settle({ from: 'node-b', to: address.cluster }, answers => answered(answers) > 0)
  const rows: Row[] = []
  for (const from of ['pod', 'node-b'] as const) {
    const answers = await cluster.send({ from, to: address.cluster, count: 60 })
    const late = from === 'pod' ? afterwards(cluster, took) : ''
    rows.push(
      row(
        'a ClusterIP spreads over three pods',
        `60 requests from ${senders[from].called} to ${address.cluster}`,
        describe(answers) + late,
        spreadOver(answers, three),
      ),
    )
  }
  return rows
}

const nodePortOnEachNode: Scene = async cluster => {
  const rows: Row[] = []
  for (const [name, node] of Object.entries(nodes)) {
    const to = `${node.address}:${nodePort}`
    const answers = await cluster.send({ from: 'client', to, count: 30 })
    rows.push(
      row(`a NodePort, on ${name}`, `30 requests from outside to ${to}`, describe(answers), spreadOver(answers, three)),
    )
  }
  return rows
}

const sourceRanges: Scene = async cluster => {
  const spec = { type: 'LoadBalancer', nodePort: 30081, loadBalancerSourceRanges: ['198.51.100.10/32'] }
  await cluster.apply(
    serviceObject('guarded', '10.96.0.11', spec, '203.0.113.10'),
    sliceObject(
      'guarded',
      three.map(pod => ({ pod })),
    ),
  )
  await cluster.settle({ from: 'client', to: address.balanced }, answers => answered(answers) > 0)
  const allowed = await cluster.send({ from: 'client', to: address.balanced, count: 30 })
  const barred = await cluster.send({ from: 'stranger', to: address.balanced, count: 3 })
  return [
    row(
      'a load balancer address, source in loadBalancerSourceRanges',
      `30 requests from ${senders.client.address} to ${address.balanced}`,
      describe(allowed),
      spreadOver(allowed, three),
    ),
    row(
      'the same, source in no range: dropped',
      `3 requests from ${senders.stranger.address} to ${address.balanced}`,
      describe(barred),
      barred.silent === 3,
    ),
  ]
}

const localKeepsTheClient: Scene = async cluster => {
  const spec = { type: 'LoadBalancer', nodePort: 30082, externalTrafficPolicy: 'Local', healthCheckNodePort: 32082 }
  await cluster.apply(
    serviceObject('near', '10.96.0.12', spec, '203.0.113.20'),
    sliceObject(
      'near',
      three.map(pod => ({ pod })),
    ),
  )
  await cluster.settle({ from: 'client', to: address.local }, answers => answered(answers) > 0)
  const local = await cluster.send({ from: 'client', to: address.local, count: 30 })
  const everywhere = await cluster.send({ from: 'client', to: address.balanced, count: 30 })
  const seen = (answers: Answers): string => `${describe(answers)}; they saw ${answers.sources.join(' and ')}`
  return [
    row(
      'externalTrafficPolicy Local: pods of this node only, and they see the client',
      `30 requests from ${senders.client.address} to ${address.local}`,
      seen(local),
      spreadOver(local, [web1, web3]) && local.sources.join() === senders.client.address,
    ),
    row(
      'for comparison, Cluster: every pod, and they see the node',
      `30 requests from ${senders.client.address} to ${address.balanced}`,
      seen(everywhere),
      spreadOver(everywhere, three) && !everywhere.sources.includes(senders.client.address),
    ),
  ]
}

const affinity: Scene = async cluster => {
  const to = '10.96.0.13:80'
  await cluster.apply(
    serviceObject('sticky', '10.96.0.13', {
      sessionAffinity: 'ClientIP',
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 600 } },
    }),
    sliceObject(
      'sticky',
      three.map(pod => ({ pod })),
    ),
  )
  await cluster.settle({ from: 'pod', to }, answers => answered(answers) > 0)
  const answers = await cluster.send({ from: 'pod', to, count: 30 })
  const base = row(
    'sessionAffinity ClientIP: a client stays with its pod',
    `30 requests from ${senders.pod.called} to ${to}`,
    describe(answers),
    failed(answers) === 0 && answers.by.size === 1,
  )
  if (cluster.kind === 'real') return [base]
  const result = `the first request may reach ${[...answers.by.keys()].join(', ')}; staying needs real packets`
  return [{ ...base, result, verdict: spreadOver(answers, three) ? 'not seen' : 'FAIL' }]
}

/** Pods go as Kubernetes takes them away: told to the API first, served for a moment of grace, stopped, forgotten. */
async function scaleTo(cluster: Cluster, present: readonly Pod[], kept: readonly Pod[]): Promise<void> {
  const going = present.filter(pod => !kept.includes(pod))
  await cluster.apply(
    sliceObject(
      'web',
      present.map(pod => ({ pod, terminating: going.includes(pod) })),
    ),
  )
  await cluster.pause(1500)
  await Promise.all(going.map(pod => cluster.stopPod(pod)))
  await cluster.apply(
    sliceObject(
      'web',
      kept.map(pod => ({ pod })),
    ),
  )
}

const scaling: Scene = async cluster => {
  const load = await cluster.load({ from: 'pod', to: address.cluster })
  const outside = await cluster.load({ from: 'client', to: `${nodes['node-b'].address}:${nodePort}` })
  await cluster.pause(500)
  await Promise.all([web4, web5].map(pod => cluster.startPod(pod)))
  await cluster.apply(
    sliceObject(
      'web',
      webPods.map(pod => ({ pod })),
    ),
  )
  await cluster.pause(1500)
  const five = await cluster.send({ from: 'pod', to: address.cluster, count: 100 })
  // The other Services of the demo must not keep pods that go.
  for (const name of ['guarded', 'near', 'sticky']) await cluster.apply(sliceObject(name, [{ pod: web1 }]))
  await scaleTo(cluster, webPods, [web1])
  await cluster.pause(500)
  const one = await cluster.send({ from: 'pod', to: address.cluster, count: 20 })
  const inside = await load.stop()
  const through = await outside.stop()
  const total = (answers: Answers): string =>
    `${share(answered(answers) + failed(answers))} requests, ${failed(answers)} failed${failed(answers) > 0 ? ` (${describe(answers)})` : ''}`
  return [
    row(
      'scaled from three pods to five',
      `100 requests to ${address.cluster}`,
      describe(five),
      spreadOver(five, webPods),
    ),
    row('and down to one', `20 requests to ${address.cluster}`, describe(one), spreadOver(one, [web1])),
    row(
      'no request failed meanwhile, from a pod to the ClusterIP',
      `requests without pause to ${address.cluster}`,
      total(inside),
      answered(inside) > 0 && failed(inside) === 0,
    ),
    row(
      'nor from outside to the NodePort',
      `requests without pause to ${nodes['node-b'].address}:${nodePort}`,
      total(through),
      answered(through) > 0 && failed(through) === 0,
    ),
  ]
}

const noEndpoints: Scene = async cluster => {
  await cluster.apply(sliceObject('web', []))
  await cluster.settle({ from: 'pod', to: address.cluster }, answers => answers.refused > 0)
  const rows: Row[] = []
  for (const [from, to] of [
    ['pod', address.cluster],
    ['client', `${nodes['node-a'].address}:${nodePort}`],
  ] as const) {
    const answers = await cluster.send({ from, to, count: 5 })
    const { refusedAfterMs } = answers
    const slowest = refusedAfterMs === undefined ? '' : `, the slowest after ${Math.ceil(refusedAfterMs)} ms`
    rows.push(
      row(
        'a Service without endpoints refuses at once',
        `5 requests from ${senders[from].called} to ${to}`,
        describe(answers) + slowest,
        answers.refused === 5 && (refusedAfterMs ?? 0) < 500,
      ),
    )
  }
  return rows
}

const deletion: Scene = async cluster => {
  await cluster.apply(sliceObject('web', [{ pod: web1 }]))
  await cluster.settle({ from: 'pod', to: address.cluster }, answers => answered(answers) > 0)
  await cluster.remove({ kind: 'Service', name: 'web' }, { kind: 'EndpointSlice', name: 'web-1' })
  await cluster.settle({ from: 'pod', to: address.cluster }, answers => answered(answers) === 0)
  const answers = await cluster.send({ from: 'pod', to: address.cluster, count: 3 })
  const other = await cluster.send({ from: 'pod', to: '10.96.0.11:80', count: 10 })
  return [
    row('a deleted Service is gone', `3 requests to ${address.cluster}`, describe(answers), answered(answers) === 0),
    row('and the others stay', '10 requests to 10.96.0.11:80', describe(other), spreadOver(other, [web1])),
  ]
}

/** In the order they are shown: each begins with what the one before left. */
export const scenes: readonly Scene[] = [
  clusterIPSpreads,
  nodePortOnEachNode,
  sourceRanges,
  localKeepsTheClient,
  affinity,
  scaling,
  noEndpoints,
  deletion,
]
