// Selectors: the grammar and the meaning of apimachinery's.
import { describe, expect, test } from 'vitest'
import { resourceNamed } from '../support/apiserver/resources.ts'
import { parseFieldSelector, parseLabelSelector } from '../support/apiserver/selectors.ts'

describe('a label selector', () => {
  const labels = { app: 'web', 'service.kubernetes.io/headless': '', size: '5' }
  test.each([
    ['', true],
    ['app=web', true],
    ['app==web', true],
    ['app = web', true],
    ['app=db', false],
    ['app!=web', false],
    ['app!=db', true],
    ['none!=db', true],
    ['none=db', false],
    ['app in (db,web)', true],
    ['app in (db, cache)', false],
    ['app notin (db)', true],
    ['app notin (db,web)', false],
    ['none notin (db)', true],
    ['none in (db)', false],
    ['app', true],
    ['none', false],
    ['!app', false],
    ['!none', true],
    ['! none', true],
    ['service.kubernetes.io/headless', true],
    ['service.kubernetes.io/headless=', true],
    ['!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name', false],
    ['app=web,!none,size in (4,5)', true],
    ['app=web,!none,size in (4,6)', false],
    ['size>4', true],
    ['size>5', false],
    ['size<6', true],
    ['none>1', false],
    ['toString', false],
  ])('%s', (text, expected) => {
    expect(parseLabelSelector(text)(labels)).toBe(expected)
  })

  test.each(['a b', 'a in', 'a in (b', 'a in b)', '=b', 'a=b c', '!', ',', 'a>x', '-a'])(
    '%s is refused with 400',
    text => {
      expect(() => parseLabelSelector(text)).toThrow(expect.objectContaining({ code: 400 }))
    },
  )
})

describe('a field selector', () => {
  const fields = { 'metadata.name': 'web', 'metadata.namespace': 'shop', 'spec.clusterIP': '' }
  test.each([
    ['', true],
    ['metadata.name=web', true],
    ['metadata.name==web,metadata.namespace=shop', true],
    ['metadata.name=web,metadata.namespace=other', false],
    ['metadata.name!=web', false],
    ['spec.clusterIP!=None', true],
    ['spec.clusterIP=None', false],
    ['spec.clusterIP=', true],
  ])('%s', (text, expected) => {
    expect(parseFieldSelector(resourceNamed('services'), text)(fields)).toBe(expected)
  })

  test.each(['spec.sessionAffinity=None', 'metadata.labels.a=b', 'metadata.name'])('%s is refused with 400', text => {
    expect(() => parseFieldSelector(resourceNamed('services'), text)).toThrow(expect.objectContaining({ code: 400 }))
  })
})
