"""Learning the cascade from what models answered before: plain Python and NumPy, no rows, no I/O.

`table` is what everything here reads; `replaying` plays a chain of models over it; `search` finds chains and
thresholds; `intervals` says how sure the figures are; `guarantee` promises, `worth` says what a model is worth.
`cascade.optimiser` is the door to these. Behind `cascade.evaluation`: `records` of answers, what is read of them
(`finals`, `signs`, `encoding`), the `answer_scorer`, the `joint_cascade` and its `peers`.
"""
