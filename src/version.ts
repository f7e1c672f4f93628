// The program's version, as in package.json (a test holds it).

export const version = 'v0.1.0'
