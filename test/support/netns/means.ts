// Says whether this machine allows namespaces: `node means.ts` prints how and ends with 0, or prints why not and ends with 1.
import { findMeans } from './sandbox.ts'

const means = await findMeans()
switch (means.kind) {
  case 'root':
    console.log('in namespaces, as root')
    break
  case 'user':
    console.log('in namespaces, through a user namespace')
    break
  case 'none':
    console.log(means.reason)
    process.exitCode = 1
}
