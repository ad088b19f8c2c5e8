"""A measured span from start to stop, and what becomes of it.

`live` measures, `publisher` stores in the background, `replay` rebuilds a span from its journal,
`meter` holds the one sampler, the one worker and the one keeper of journals of the process.
On one of several machines `node_sink` keeps its figures apart, `merging` adds up what all have stored,
and `peers` looks for the late.
"""
