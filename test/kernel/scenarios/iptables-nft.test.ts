// Every conformance scenario with real packets, on the nft variant of iptables.
import { sendScenarios } from './suite.ts'

sendScenarios('iptables-nft')
