// What a change costs between the compiler and the kernel, and what a comparison with the kernel costs, with 10,000 Services.

import { DesiredProgram } from '../../src/sync/program.ts'
import { modes, pureBackend, servicePort } from '../backend/cases.ts'
import type { Step } from '../bench/micro.ts'
import { networkOf } from './harness.ts'

const services = 10_000
const network = networkOf('IPv4')

function stepsOf(mode: (typeof modes)[number]): Step[] {
  const backend = pureBackend(mode)
  const program = new DesiredProgram(backend.layout?.())
  program.replace('', [...backend.skeleton(network)])
  for (let n = 0; n < services; n++) {
    const port = servicePort(n, 5, 8080)
    program.replace(port.name, [...backend.compile(port, network)])
  }
  program.pending()
  program.settle()
  const held = new Map(program.objects)

  const middle = services >> 1
  const versions = [8080, 9090].map(at => [...backend.compile(servicePort(middle, 5, at), network)])
  let turn = 0
  return [
    {
      name: `${mode}: one Service of ${services} changes: replace, diff, plan`,
      run: () => {
        program.replace(`bench/app-${middle}:http`, versions[++turn % 2] ?? [])
        const transaction = backend.plan(program.pending(), program.objects)
        program.settle()
        return transaction
      },
    },
    { name: `${mode}: ${services} Services compared with the kernel`, run: () => program.rebase(held) },
  ]
}

export const steps: readonly Step[] = modes.flatMap(stepsOf)
