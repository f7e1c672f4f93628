// Every scenario on the nftables backend, as that mode means it.
import { conformance } from '../../conformance/conformance.ts'
import { StrictNft } from '../../support/strict-nft/strict-nft.ts'

conformance('nftables', { mode: 'nftables', machine: () => new StrictNft() })
