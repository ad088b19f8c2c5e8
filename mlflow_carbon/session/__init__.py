"""A measured span from start to stop, and what becomes of it.

`live` measures, `publisher` stores in the background, `replay` rebuilds a span from its journal,
`meter` holds the one sampler, the one worker and the one keeper of journals of the process.
"""
