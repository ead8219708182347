"""Learning the cascade from what models answered before: plain Python and NumPy, no rows, no I/O.

`table` is what everything here reads; `replaying` plays a chain of models over it; `search` finds chains and
thresholds; `intervals` says how sure the figures are. `cascade.optimiser` is the door to all of it.
"""
