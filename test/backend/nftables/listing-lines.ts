// What nft lists, to be compared: the order of elements in a set by hash means nothing.

/** Lines of a listing; those of elements one each, in an order of their own. */
export const listedLines = (text: string): readonly string[] =>
  text
    .replace(/elements = \{([^}]*)\}/g, (_, inside: string) =>
      inside
        .split(',')
        .map(element => element.trim())
        .sort()
        .join('\n'),
    )
    .split('\n')
