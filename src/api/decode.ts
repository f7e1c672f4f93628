// Object of a kind to the event that tells the model of it: the one table of decoders.
import type { ModelEvent, ModelKind } from '../model/records.ts'
import { decodeNode, decodeServiceCIDR } from './decode-node.ts'
import { decodeService } from './decode-service.ts'
import { decodeEndpointSlice } from './decode-slice.ts'
import type { Report } from './fields.ts'

/** A change of one object, without the `synced` marks. */
export type ObjectEvent = Exclude<ModelEvent, { kind: 'synced' }>

/** All kinds, in the order in which a source reads them. */
export const modelKinds: readonly ModelKind[] = ['Node', 'ServiceCIDR', 'Service', 'EndpointSlice']

/**
 * Decodes an object into the event that states it. The record is undefined when there is nothing in the object for us.
 * @throws DecodeError when the object as a whole cannot be used; what was known of it should then stay in force.
 */
export function decodeEvent(kind: ModelKind, key: string, object: unknown, report: Report): ObjectEvent {
  switch (kind) {
    case 'Service':
      return { kind, key, record: decodeService(object, report) }
    case 'EndpointSlice':
      return { kind, key, record: decodeEndpointSlice(object, report) }
    case 'Node':
      return { kind, key, record: decodeNode(object, report) }
    case 'ServiceCIDR':
      return { kind, key, record: decodeServiceCIDR(object, report) }
  }
}

/** The event that says an object is gone. */
export const removalEvent = (kind: ModelKind, key: string): ObjectEvent => ({ kind, key, record: undefined })
