// A scenario's configuration as the file an administrator would write, and as the program reads it.
import { parseCommandLine } from '../../src/config/flags.ts'
import { load } from '../../src/config/load.ts'
import type { Configuration, ProxyMode } from '../../src/config/types.ts'
import type { ScenarioConfig } from './scenario.ts'

/** The KubeProxyConfiguration document. Conntrack limits, which concern the whole machine, are left as they are. */
export function configurationDocument(config: ScenarioConfig, mode: ProxyMode): object {
  const { masqueradeAll, masqueradeBit, localhostNodePorts, ...general } = config
  const section = {
    iptables: { iptables: { masqueradeAll, masqueradeBit, localhostNodePorts } },
    nftables: { nftables: { masqueradeAll, masqueradeBit } },
    ipvs: { ipvs: {}, iptables: { masqueradeAll, masqueradeBit } },
  }[mode]
  return {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode,
    ...general,
    ...section,
    conntrack: { maxPerCore: 0, min: 0 },
  }
}

/** The effective configuration. Throws ConfigError if the program does not take what the scenario says. */
export function configurationOf(config: ScenarioConfig, mode: ProxyMode): Configuration {
  const text = JSON.stringify(configurationDocument(config, mode))
  return load(parseCommandLine(['run', '--config', 'scenario.json']), () => text).configuration
}
