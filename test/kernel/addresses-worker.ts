// Inside a namespace: lists its addresses and follows them. Run by `Sandbox.worker`.
import { type AddressWatch, followAddresses, hostAddresses } from '../../src/kernel/addresses.ts'
import { answerCalls } from '../support/netns/calls.ts'

const list = async (): Promise<readonly string[]> => (await hostAddresses()).sort()

let watch: AddressWatch | undefined
let told: (readonly string[])[] = []

async function follow({ periodMs }: { periodMs: number }): Promise<void> {
  watch = await followAddresses(addresses => told.push([...addresses].sort()), periodMs)
}

/** What was handed over since the last call. */
async function heard(): Promise<readonly (readonly string[])[]> {
  const found = told
  told = []
  return found
}

async function end(): Promise<void> {
  await watch?.close()
}

const methods = { list, follow, heard, end }
export type AddressMethods = typeof methods

answerCalls(methods)
