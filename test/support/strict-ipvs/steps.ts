// Single steps inside one call of a program, so that tests can stop it between any two of them.

/** Runs one change in the kernel. Throws Killed instead if the program shall not get that far. */
export type StepGuard = (step: () => void) => void

/** The program was ended by a signal between two changes. */
export class Killed extends Error {}

/** Lets so many steps happen; steps that the kernel refuses count as well. */
export function stepGuard(most = Number.POSITIVE_INFINITY): StepGuard {
  let left = most
  return step => {
    if (left-- <= 0) throw new Killed()
    step()
  }
}
