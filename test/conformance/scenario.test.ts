// The scenario files are well formed and together cover the behaviour they have to.
import { expect, test } from 'vitest'
import { loadScenarios, parseScenario, type Scenario } from './scenario.ts'
import type { Origin } from './world.ts'

const scenarios = loadScenarios()

const columns = ['Cluster', 'Local', 'Local empty', 'none']
const destinations = ['ClusterIP', 'NodePort', 'externalIP', 'VIP']
const matrix = destinations.flatMap(destination => columns.map(column => `14.1 ${destination}: ${column}`))
const sections = [
  ...['1.1', '1.2', '1.3', '1.4', '1.5', '2.1', '2.2', '3.1', '3.2', '3.3', '3.4', '3.5', '3.6', '3.7', '14.2', '15.2'],
  ...['14.1 localhost → NodePort', '14.1 outside nodePortAddresses', '14.1 healthCheckNodePort', '14.1 ipMode Proxy'],
  ...['14.1 hairpin', '14.3 masqueradeAll', '14.3 no detector', '14.3 affinity', '14.3 iTP Local'],
  '14.3 hostNetwork endpoint',
]

test.each([...matrix, ...sections])('some scenario shows %s', reference => {
  expect(scenarios.filter(scenario => scenario.reference.includes(reference))).not.toHaveLength(0)
})

test.each(matrix)('%s is shown for every kind of client and in both families', reference => {
  const [scenario] = scenarios.filter(found => found.reference.includes(reference))
  const packets = scenario?.steps.flatMap(step => step.packets) ?? []
  const clients: Origin[] = ['asking-pod', 'remote-pod', 'node', 'outside']
  for (const client of clients) {
    for (const separator of ['.', ':']) {
      expect(packets.some(found => found.origin === client && found.packet.src.includes(separator))).toBe(true)
    }
  }
})

test('every protocol and at least sixty-five scenarios', () => {
  expect(scenarios.length).toBeGreaterThanOrEqual(65)
  const protocols = scenarios.flatMap(found =>
    found.steps.flatMap(step => step.packets.map(sent => sent.packet.protocol)),
  )
  expect([...new Set(protocols)].sort()).toEqual(['SCTP', 'TCP', 'UDP'])
})

test('no two scenarios show the same', () => {
  expect(new Set(scenarios.map(scenario => scenario.shows)).size).toBe(scenarios.length)
})

const head = (lines: string) => `kind: Scenario\nshows: x\nreference: ['1.1']\n${lines}`
const packet = '{ from: 10.244.1.101, to: 10.96.0.20:80, expect: { verdict: none } }'
const step = `steps: [{ title: t, packets: [${packet}] }]\n`
const parse = (yaml: string): Scenario => parseScenario(yaml, 'a.yaml')

test.each([
  ['an unknown field', head(`${step}stepps: 1\n`), /^a\.yaml\.stepps: unknown field/],
  [
    'an unknown field of a step',
    head(`steps: [{ title: t, packet: [${packet}] }]`),
    /^a\.yaml\.steps\[0\]\.packet: unknown field/,
  ],
  [
    'an unknown configuration field',
    head(`${step}config: { masqAll: true }`),
    /^a\.yaml\.config\.masqAll: unknown field/,
  ],
  [
    'an unknown verdict',
    head(step.replace('none', 'nat')),
    /steps\[0\]\.packets\[0\]\.expect\.verdict: must be one of/,
  ],
  ['dnat without endpoints', head(step.replace('none', 'dnat')), /expect\.endpoints: must be given/],
  [
    'a source that nobody has',
    head(step.replace('10.244.1.101', '8.8.8.8')),
    /packets\[0\]\.from: nobody in the world/,
  ],
  ['mixed families', head(step.replace('10.244.1.101', '"fd00:100::1"')), /different families/],
  ['a bad port', head(step.replace(':80', ':99999')), /packets\[0\]\.to: .*not an address and port/],
  ['real: false without why', head(`${step}real: false`), /^a\.yaml\.why/],
  [
    'a deletion of nothing',
    head(step.replace('title: t,', 'title: t, delete: [Service/a/b],')),
    /deletes Service\/a\/b/,
  ],
  [
    'a misspelt object field',
    `${head(step)}---\napiVersion: v1\nkind: Service\nmetadata: { name: a, namespace: b }\nspec: { clusterIPP: 10.96.0.1 }\n`,
    /documents\[0\]\.spec\.clusterIPP: unknown field/,
  ],
  [
    'a bad generator',
    head(step.replace(packet, `{ generate: 0, as: ${packet} }`)),
    /packets\[0\]\.generate: must be a whole number/,
  ],
  ['bad YAML', 'kind: [', /^a\.yaml: /],
])('%s is refused with file and field', (_, yaml, message) => {
  expect(() => parse(yaml)).toThrow(message)
})

test('lists of sources and destinations are crossed, generators expanded', () => {
  const both = packet
    .replace('10.244.1.101', '[10.244.1.101, 198.51.100.10]')
    .replace('10.96.0.20:80', '[10.96.0.20:80, 10.96.0.21:80]')
  const generated = `{ generate: 3, as: { from: '10.244.1.\${i+100}', to: '10.96.\${i*2/4}.\${i%2+1}:80', expect: { verdict: none } } }`
  const { steps } = parse(head(`steps: [{ title: t, packets: [${both}, ${generated}] }]`))
  expect(steps[0]?.packets.map(({ packet: sent }) => `${sent.src}>${sent.dst} ${sent.interface}`)).toEqual([
    '10.244.1.101>10.96.0.20 vethc0',
    '10.244.1.101>10.96.0.21 vethc0',
    '198.51.100.10>10.96.0.20 eth0',
    '198.51.100.10>10.96.0.21 eth0',
    '10.244.1.100>10.96.0.1 vethc0',
    '10.244.1.101>10.96.0.2 vethc0',
    '10.244.1.102>10.96.1.1 vethc0',
  ])
})
