// Whom the committer sets aside, and what the others keep then.
import { expect, it } from 'vitest'
import { CommitError } from '../../src/backend/backend.ts'
import { Committer } from '../../src/sync/committer.ts'
import { FakeKernel, fakeBackend } from './fake-backend.ts'

const { signal } = new AbortController()

it('a key that a refused owner gave up stays with the one who has got it, also when a refusal that names nobody follows', async () => {
  const kernel = new FakeKernel()
  const refused: string[] = []
  const committer = new Committer(fakeBackend(kernel), {
    refused: owner => refused.push(owner),
    giveUp: () => false,
  })
  const port = (value: string) => ({ key: 'port', value })
  committer.replace('b', [{ key: 'b', value: 'own' }])
  committer.replace('a', [{ key: 'a', value: 'own' }, port('to a')])
  await committer.commit(true, signal)

  committer.replace('a', [{ key: 'a', value: 'bad' }])
  committer.replace('b', [{ key: 'b', value: 'own' }, port('to b')])
  kernel.refuses = (_key, value) => value === 'bad'
  kernel.failures.push(undefined, new CommitError('refused', 'line 7 failed'))
  // What fails with the third has written a part before, as the legacy variant does.
  kernel.during = () => {
    if (kernel.attempts === 3) kernel.held.set('port', 'to b')
  }
  await committer.commit(true, signal)
  expect(refused).toEqual(['a'])
  expect([...kernel.held].sort()).toEqual([
    ['a', 'own'],
    ['b', 'own'],
    ['port', 'to b'],
  ])
  committer.replace('b', [])
  await committer.commit(true, signal)
  expect(kernel.held.get('port')).toBe('to a')
})
