// A scenario with real packets by the program's own command line: `run --once` at each step, on top of what the step before
// left in the kernel, and `plan`, which must then find nothing to do.
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ProxyMode } from '../../src/config/types.ts'
import type { ApiObject } from '../conformance/objects.ts'
import type { Scenario, ScenarioConfig } from '../conformance/scenario.ts'
import { world as places } from '../conformance/world.ts'
import type { Pace } from '../support/world/packets.ts'
import { type Driver, type Report, sendScenario } from '../support/world/scenario.ts'
import type { World } from '../support/world/world.ts'

export { unsendable } from '../support/world/packets.ts'

// Built once by the test: a source that is being edited must not change the program between two steps.
const program = [process.execPath, '--max-semi-space-size=2', join(import.meta.dirname, '../../dist/penstock.js')]

/**
 * For the machine's own kernel. A lost SYN is sent again after 1, 3 and 7 s on a busy machine. With n endpoints one of them
 * stays unseen through 25 n connections once in 10^10 times, and an endpoint too many through 8 (n + 1) once in 3,000.
 */
export const pace: Pace = {
  silenceMs: 400,
  lateSilenceMs: 1_500,
  patienceMs: 10_000,
  attemptsFor: endpoints => ({ atLeast: 8 * (endpoints + 1), attempts: 25 * endpoints + 16, parallel: 8 }),
  parallel: 16,
}

/** Runs all steps of a scenario. `directory` is emptied and used for its manifests. The program must have been built. */
export const runScenario = (world: World, scenario: Scenario, mode: ProxyMode, directory: string): Promise<Report> =>
  sendScenario(world, commandLine(world, scenario, mode, directory), scenario, pace)

function commandLine(world: World, scenario: Scenario, mode: ProxyMode, directory: string): Driver {
  const manifests = join(directory, 'manifests')
  const config = join(directory, 'config.json')
  const penstock = (...args: readonly string[]) =>
    world.sandbox.exec({
      namespace: 'node-a',
      argv: [...program, ...args, '--manifests', manifests, '--config', config, '--hostname-override', places.nodeName],
      // Started hundreds of times: compiled once.
      env: { NODE_COMPILE_CACHE: join(directory, '../compiled') },
    })
  return {
    async begin() {
      await rm(directory, { recursive: true, force: true })
      await mkdir(manifests, { recursive: true })
      await writeFile(config, JSON.stringify(configurationOf(scenario.config, mode)))
    },
    async step(_index, present) {
      await writeFile(join(manifests, 'objects.json'), listOf(present))
      const ran = await penstock('run', '--once')
      await world.forgetFlows()
      return ran.exitCode === 0 ? [] : [`run --once ended with ${ran.exitCode}: ${ran.stderr.trim()}`]
    },
    async compare() {
      const plan = await penstock('plan')
      if (plan.exitCode === 0) return []
      return [`plan ended with ${plan.exitCode} after the sync: ${plan.stdout}${plan.stderr.trim()}`]
    },
  }
}

/** The scenario's configuration as a file. What concerns the whole machine and not its rules is left as it is. */
function configurationOf(config: ScenarioConfig, mode: ProxyMode): object {
  const { masqueradeAll, masqueradeBit, localhostNodePorts, ...general } = config
  return {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode,
    ...general,
    iptables: { masqueradeAll, masqueradeBit, localhostNodePorts },
    nftables: { masqueradeAll, masqueradeBit },
    conntrack: { maxPerCore: 0, min: 0 },
  }
}

const listOf = (objects: readonly ApiObject[]): string =>
  JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects })
