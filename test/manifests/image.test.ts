// The Dockerfile, as far as it can be judged without building it: hack/image builds it and tries the result.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '../..')
const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8')
const ignored = readFileSync(join(root, '.dockerignore'), 'utf8').split('\n')

test('is built from files that exist and that .dockerignore lets through', () => {
  const sources = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, files = '']) => files.split(' '))
  expect(sources).toContain('src')
  for (const source of sources) {
    expect(existsSync(join(root, source)), source).toBe(true)
    expect(ignored).toContain(`!${source}`)
  }
})

test('has the Node that the lock file pins', () => {
  const { optionalDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    optionalDependencies: Readonly<Record<string, string>>
  }
  const versions = Object.entries(optionalDependencies).flatMap(([name, version]) =>
    name.startsWith('node-') ? [version] : [],
  )
  expect(versions).not.toEqual([])
  for (const version of versions) expect(dockerfile).toContain(`ARG NODE_IMAGE=node:${version}-`)
})

test('pins its base images, and every stage uses one of them', () => {
  const bases = [...dockerfile.matchAll(/^ARG \w+_IMAGE=(.+)$/gm)].map(([, base]) => base)
  for (const base of bases) expect(base).toMatch(/^[a-z]+:\d+\.\d+[\w.-]*$/)
  const stages = [...dockerfile.matchAll(/^FROM (?:--platform=\S+ )?(\S+)/gm)].map(([, base]) => base)
  for (const stage of stages) expect(stage).toMatch(/^\$\{(NODE|DEBIAN)_IMAGE\}$/)
})

test.each(['hack/image', 'hack/image.d/try.sh', 'hack/image.d/enter', 'hack/lib.sh'])('%s is a shell script', file => {
  const shell = readFileSync(join(root, file), 'utf8').startsWith('#!/bin/sh') ? 'sh' : 'bash'
  const { status, stderr } = spawnSync(shell, ['-n', join(root, file)], { encoding: 'utf8' })
  expect(stderr).toBe('')
  expect(status).toBe(0)
})

test('hack/image names what it does not understand', () => {
  const { status, stderr } = spawnSync(join(root, 'hack/image'), ['--arch', 's390x'], { encoding: 'utf8' })
  expect(status).toBe(1)
  expect(stderr).toBe("--arch is amd64 or arm64, not 's390x'.\n")
})
