// Scripts that the strict nft is held against the real one with.
import { readFileSync } from 'node:fs'

const read = (file: string): string => readFileSync(new URL(file, import.meta.url), 'utf8')
const scripts = (file: string): readonly string[] => read(file).split('%%\n')

/** What is there when each script begins. */
export const base = read('base.nft')

/** Both take or refuse them, for the same reasons at the same lines, and list the same afterwards. */
export const alike = scripts('alike.txt')

/** Both refuse them, each in its own words. */
export const otherwise = scripts('otherwise.txt')

/** Refused here on purpose, and taken by nft 1.0.6 and new kernels. */
export const stricter = scripts('stricter.txt')
