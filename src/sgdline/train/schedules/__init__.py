"""Learning rate schedules: pure functions of the update number.

A schedule is a module of this package with the name that the config uses, or an entry. It declares its options in a
frozen dataclass that derives from `sgdline.train.schedules.base.Schedule`, which makes the function.
"""
