// `fast` needs no root and no kernel; `kernel` runs in network namespaces that the tests make themselves; `vm` tries
// out hack/vm and IPVS mode's daily life in it, takes minutes and is run by itself; `vm-scenarios` is what of the virtual machine
// is run with all the rest: packets, and netlink against ipvsadm.
import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    // One more than vitest would take: much of the time is waiting for the kernel.
    maxWorkers: availableParallelism(),
    projects: [
      {
        test: {
          name: 'fast',
          include: ['test/**/*.test.ts'],
          exclude: ['test/kernel/**', 'test/vm/{tool,scenarios,ipvs-life,netlink-ipvs}.test.ts'],
          testTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'kernel',
          include: ['test/kernel/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'vm',
          include: ['test/vm/tool.test.ts', 'test/vm/ipvs-life.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 300_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'vm-scenarios',
          include: ['test/vm/scenarios.test.ts', 'test/vm/netlink-ipvs.test.ts'],
          fileParallelism: false,
          // The first test waits for the machine to boot; on a busy machine everything takes several times as long.
          testTimeout: 1_800_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
})
