"""Update rules: from a gradient to the m_t and lr_t of theta_{t+1} = theta_t - lr_t * m_t.

A rule is a module of this package with the name that the config uses, or an entry. It declares its options and what it
can do in a frozen dataclass that derives from `sgdline.train.rules.base.UpdateRule`, which makes the rule.
"""
